"""Which virtual weights are real? Definitions, exact measurements and cheap heuristics.

Lift a trained toy model back to feature space and it is one matrix U (n, n) with a bias b (n,):
y_hat = relu(x @ U.T + b). A few entries of U are the circuit that the task asks for (real weights);
most exist only because features share dimensions (interference weights). This file asks, in order:

    1  What does each weight do?          exact ablation, standard errors, second-order estimate
    2  Which weights are real?            Definition 1 (ideal), Definition 2 (loss), learned mask
    3  Can real ones be found cheaply?    weight, ERA, TWERA, frequency, second order, sparse codes
    4  How good is a ranking?             precision and recall, loss gain, loss of a pruned model
    5  What structure is in it?           set means, feature dimensionality, circulants, sharing
    6  What does interference do?         attribution graphs, worst cases, steering
    7  Trained configurations             the models that figures, exercises and tests share

Notation: the table at the top of `toymodel.py`. U is square throughout. Products are taken in U's
dtype, and sums of chunks of examples kept in float64. Wrong shapes and entries that are not finite
raise ValueError, anything that is not an array of real numbers TypeError. "The note" is A Toy Model
of Interference Weights (Olah, Turner, Conerly 2025); definitions from elsewhere name their source.
"""
from toymodel import (LiftedModel, MaskedModel, Task, TiedModel, UntiedModel, block_task, check,
                      check_array, check_booleans, check_kind, check_number, check_square,
                      check_whole, check_wholes, correlated_task, generator, identity_task, relu,
                      squared_error, squares, train)  # first, as it pins BLAS threads

import sys
from functools import cached_property, lru_cache

import numpy as np

# --- 1. What does each weight do? -----------------------------------------------------------------


def preactivations(U, b, x):
    """z = x @ U.T + b (B, n): what the relu of the lifted model sees."""
    return x @ U.T + b


def ablations(U, b, x):
    """Yield, for each source j, what every ablation of a weight U_ij does to output i.

    Ablating U_ij moves z_i by -U_ij x_j and touches nothing else, and where x_j = 0 not even that.
    So go over sources, and for each only over the examples in which it is active: the work is that
    of the active features, n for each, not n^2 for each example. Examples come in chunks, of a size
    that keeps one source's rows in the processor's cache.

    Yields j, rows (R,) of x, and y_hat (R, n) before and after: entry i of `after` without U_ij.
    """
    active_per_example = max(1, np.count_nonzero(x) // len(x))
    chunk = min(4096, 1 + 2**16 // active_per_example)
    for start in range(0, len(x), chunk):
        x_chunk = x[start:start + chunk]
        z = preactivations(U, b, x_chunk)
        y_hat = relu(z)
        for j in range(len(U)):
            rows = np.flatnonzero(x_chunk[:, j])
            lost = np.outer(x_chunk[rows, j], U[:, j])           # (R, n), U_ij x_j
            after = relu(z.take(rows, axis=0) - lost)            # (R, n)
            yield j, start + rows, y_hat.take(rows, axis=0), after


def ablation_effects(U, b, x, y, importance=None):
    """Exact effect of each weight on the loss: dL_ij = L(U with U_ij = 0) - L(U).

    Positive: the weight helps. Only target i changes, so that

        dL_ij = 1/B importance_i sum_b [ (y_hat_bi without U_ij - y_bi)^2 - (y_hat_bi - y_bi)^2 ]

    Returns dL (n, n). The note, section "Real weights".
    """
    U, b, x, y, importance = checked(U, b, x, y, importance)
    dL = np.zeros(U.shape)
    for j, rows, before, after in ablations(U, b, x):
        answers = y.take(rows, axis=0)                           # (R, n)
        dL[:, j] += squares(after - answers) - squares(before - answers)
    return importance[:, None] * dL / len(x)


def ablation_standard_errors(U, b, x, y, importance=None):
    """Standard error (n, n) of each `ablation_effects`, from the paired differences per example.

    dL_ij is a mean over examples of the differences d_b, so its standard error is their sample
    standard deviation over sqrt(B); dL_ij +- 1.96 of it is a 95 % interval for large B, one weight
    at a time. 0 says that d_b is the same in all examples. Needs at least two.
    """
    U, b, x, y, importance = checked(U, b, x, y, importance)
    check(len(x) >= 2, "x", "at least 2 examples", len(x))
    mean, mean_square = np.zeros(U.shape), np.zeros(U.shape)
    for j, rows, before, after in ablations(U, b, x):
        answers = y.take(rows, axis=0)                           # (R, n)
        d = (after - answers)**2 - (before - answers)**2         # (R, n), in other examples 0
        mean[:, j] += d.sum(axis=0) / len(x)
        mean_square[:, j] += squares(d) / len(x)
    variance = np.maximum(mean_square - mean**2, 0)              # rounding: no -1e-20
    return importance[:, None] * np.sqrt(variance / (len(x) - 1))


def sampled_effects(U, b, x, y, targets, sources, importance=None):
    """`ablation_effects` of the k weights U[targets, sources] only, (k,): k B steps, not n^2 B.

    (After one forward pass for the targets among them.) For ground truth on a sample of weights, in
    models too large for all of them; what a sample can tell is `estimated_precision`.
    """
    U, b, x, y, importance = checked(U, b, x, y, importance)
    targets = check_wholes("targets", targets, 0, len(U) - 1)
    sources = check_wholes("sources", sources, 0, len(U) - 1)
    check(len(targets) == len(sources) > 0, "sources", f"as many as targets, {len(targets)}, and "
          "not none", len(sources))
    dL = np.zeros(len(targets))
    for i in set(targets):
        z = x @ U[i] + b[i]                                      # (B,)
        before = np.sum((relu(z) - y[:, i])**2, dtype=np.float64)
        for k in np.flatnonzero(np.equal(targets, i)):
            j = sources[k]
            after = relu(z - U[i, j] * x[:, j])                  # (B,)
            dL[k] = np.sum((after - y[:, i])**2, dtype=np.float64) - before
    return importance[targets] * dL / len(x)


def second_order_effects(U, b, x, y, importance=None):
    """`ablation_effects` as if no gate flipped: two matrix products beyond the forward pass.

    With gates gate_i = 1[z_i > 0] held fixed the loss is a quadratic in U_ij, and setting it to 0
    changes it by

        dL_ij ~ importance_i ( -2 U_ij E[gate_i e_i x_j] + U_ij^2 E[gate_i x_j^2] ),   e = y_hat - y

    minus gradient times weight, plus half the second derivative times the weight squared: the
    saliency of Optimal Brain Damage (LeCun, Denker, Solla 1990) with the gradient that it drops at
    a minimum. It approximates the very dL that Definition 2 is about, so it finds real weights
    partly by construction. Returns (n, n).
    """
    U, b, x, y, importance = checked(U, b, x, y, importance)
    z = preactivations(U, b, x)                                  # (B, n)
    gate = (z > 0).astype(U.dtype)                               # (B, n)
    e = relu(z) - y                                              # (B, n)
    slope = (gate * e).T @ x / len(x)                            # (n, B) @ (B, n) -> (n, n)
    curvature = gate.T @ x**2 / len(x)                           # (n, B) @ (B, n) -> (n, n)
    return importance[:, None] * (-2 * U * slope + U**2 * curvature)


def effectiveness(U, b, x):
    """How far each weight moves the output: E[(change of y_hat_i when U_ij is ablated)^2], exact.

    For squared error (Gaussian outputs of unit variance) the Fisher metric is the identity, so this
    is the effectiveness of Turner, Wu and Batson (2026), *Characterizing interference weights in a
    tiny language model*. Whether the movement helps is `ablation_effects`. Returns (n, n), >= 0.
    """
    U, b, x = checked(U, b, x)
    total = np.zeros(U.shape)
    for j, _, before, after in ablations(U, b, x):
        total[:, j] += squares(after - before)
    return total / len(x)


def gate_flip_rate(U, b, x):
    """P(ablating U_ij opens or shuts gate i), (n, n): where `second_order_effects` is not exact."""
    U, b, x = checked(U, b, x)
    flips = np.zeros(U.shape)
    for j, _, before, after in ablations(U, b, x):
        flips[:, j] += np.sum((before > 0) != (after > 0), axis=0)
    return flips / len(x)


# --- 2. Which weights are real? -------------------------------------------------------------------

THRESHOLD = 1e-4  # Definition 2


def ideal_weights(U, b, task, l1=1e-4, steps=3000, batch_size=256, learning_rate=0.03, seed=0,
                  train_bias=True, progress=None):
    """Definition 1: what the weights become once every one of them is free (n x n, no bottleneck).

    Trains U and b, starting from the model's, with the small penalty l1 * sum|U|, which decides
    about weights that the data leave free. A target whose gate is shut on every example would get
    no gradient, so biases start no lower than where the mean of z is 0. The answer depends on the
    start: from random weights fewer than half of a block circuit come back. With train_bias=False
    the weights have to make up for b, and are not the circuit's.

    Returns (U_star (n, n), b_star (n,)), which belong together. The note, section "Real weights".
    """
    check_kind("task", task, Task)
    x, _ = task.batch(generator(seed), batch_size)
    U, b, x = checked(U, b, x)
    lifted = LiftedModel(U, b, l1)
    if train_bias:
        lifted.b = np.maximum(b, -(x @ U.T).mean(axis=0))
    else:
        lifted.parameter_names = ("U",)
    train(lifted, task, steps, batch_size, learning_rate, seed, "cosine", progress=progress)
    return lifted.U, lifted.b


def decompose_by_ideal(U, U_star):
    """Definition 1: (real, interference) = (U_star, U - U_star), which sum to U."""
    U = check_square("U", U)
    U_star = check_array("U_star", U_star, U.shape, U.dtype)
    return U_star, U - U_star


def decompose_by_loss(U, dL, threshold=THRESHOLD):
    """Definition 2: a weight is real if ablating it alone raises the loss by more than `threshold`.

    The bias stays as it was trained, so a weight also counts for the mean that b has adapted to.
    Returns (real, interference), each entry of U being in exactly one of them.
    """
    U = check_square("U", U)
    threshold = check_number("threshold", threshold, "(-inf, inf)")
    is_real = check_array("dL", dL, U.shape) > threshold
    return np.where(is_real, U, 0), np.where(is_real, 0, U)


def learned_mask(U, b, task, penalty=1e-3, steps=2000, batch_size=256, learning_rate=0.03, seed=0,
                 progress=None):
    """The mask alternative: learn which weights to keep, all at once, at a price for each.

    Minimises the loss of the model with weights U * mask plus penalty * sum(mask); U stays as it is
    and the bias is trained too, to make up for what the removed weights added on average. The mask
    starts at 1/2 everywhere. Returns (mask (n, n) in [0, 1], b (n,)).
    """
    check_kind("task", task, Task)
    U = check_square("U", U)
    masked = MaskedModel(U, b, np.zeros_like(U), penalty)
    train(masked, task, steps, batch_size, learning_rate, seed, "cosine", progress=progress)
    return masked.mask(), masked.b


# --- 3. Can real weights be found cheaply? --------------------------------------------------------


def weight_score(U):
    """The weight itself (n, n): is large and positive real?"""
    return check_square("U", U).copy()


def expected_attribution(U, b, x):
    """ERA, expected residual attribution: E[1(y_hat_i > 0) x_j] U_ij, (n, n).

    Circuit Tracing (Ameisen et al. 2025), section "Global Weights".
    """
    U, b, x = checked(U, b, x)
    fires = (preactivations(U, b, x) > 0).astype(U.dtype)        # (B, n)
    return fires.T @ x / len(x) * U                              # (n, B) @ (B, n) -> (n, n)


def target_weighted_attribution(U, b, x, normalise=True):
    """TWERA, target-weighted ERA: E[y_hat_i x_j] / E[y_hat_i] U_ij, (n, n).

    Circuit Tracing, section "Global Weights". The ratio is a mean of x_j, weighted by y_hat_i: for
    a target that almost never fires it rests on a few examples and is as large as for any other, so
    silent targets fill the top of the ranking. The note describes its heuristic as weights with big
    effects on big things; read so, nothing is divided: normalise=False gives E[y_hat_i x_j] U_ij.
    A target that never fires scores 0.
    """
    U, b, x = checked(U, b, x)
    y_hat = relu(preactivations(U, b, x))                        # (B, n)
    score = y_hat.T @ x / len(x) * U                             # (n, B) @ (B, n) -> (n, n)
    if normalise:
        mean = y_hat.mean(axis=0, dtype=np.float64)              # (n,)
        score = score / np.maximum(mean, np.finfo(np.float64).tiny)[:, None]
    return score


def coactivation_frequency(U, b, x):
    """P(x_j > 0 and y_hat_i > 0), (n, n). No weight in it: what do activations alone tell?"""
    U, b, x = checked(U, b, x)
    fires = (preactivations(U, b, x) > 0).astype(U.dtype)        # (B, n)
    return fires.T @ (x > 0).astype(U.dtype) / len(x)            # (n, B) @ (B, n) -> (n, n)


SCORES = {  # name -> score (n, n) from U, b, x, y; the weight most likely real scores highest
    "weight": lambda U, b, x, y: weight_score(U),
    "era": lambda U, b, x, y: expected_attribution(U, b, x),
    "twera": lambda U, b, x, y: target_weighted_attribution(U, b, x),
    "target_weighted": lambda U, b, x, y: target_weighted_attribution(U, b, x, normalise=False),
    "frequency": lambda U, b, x, y: coactivation_frequency(U, b, x),
    "effectiveness": lambda U, b, x, y: effectiveness(U, b, x),
    "second_order": second_order_effects,
}


def all_scores(U, b, x, y):
    """All SCORES by name; "twera" is as published, "target_weighted" as the note's words say."""
    return {name: score(U, b, x, y) for name, score in SCORES.items()}


def silent_targets(U, b, x):
    """Which targets hardly ever fire: mean output below 1 % of the largest, (n,) booleans.

    (A task can have such targets of its own: the block task makes about a quarter so.)
    """
    U, b, x = checked(U, b, x)
    mean = relu(preactivations(U, b, x)).mean(axis=0)            # (n,)
    return mean <= 0.01 * mean.max()


def dual_directions(W_down):
    """D (m, n) = (W_down W_down^T)^-1 W_down, the dictionary for `sparse_code`.

    The best linear read-out of a circuit A from h = W_down x is W_up = A W_down^+ = A D.T, for x of
    independent entries of equal variance and mean 0: row i of W_up is the sum of A_ij times column
    j of D. Raises ValueError if the rows of W_down (m, n) are not independent.
    """
    W_down = check_array("W_down", W_down, (None, None))
    rank = np.linalg.matrix_rank(W_down)
    check(rank == len(W_down), "W_down", f"of rank {len(W_down)}", rank)
    return np.linalg.solve(W_down @ W_down.T, W_down)            # (m, m), (m, n) -> (m, n)


def sparse_code(D, W, penalty, steps=2000, tolerance=1e-4):
    """Each row of W (r, m) as few columns of D (m, k) as possible: codes C (r, k) >= 0.

    Compressed sensing, as a non-negative lasso for every row w of W: find c >= 0 with the smallest

        F(c) = 1/2 |D c - w|^2 + penalty sum_k c_k

    The smooth half has gradient D^T (D c - w), which changes by at most |D|^2 |c - c'| from c to c'
    (|D|: the largest singular value). So with step = 1 / |D|^2 the parabola of curvature 1 / step
    that touches it at c lies above it everywhere, and F falls if c moves to the bottom of parabola
    plus penalty: a gradient step, then a soft threshold that also keeps c >= 0,

        c <- max(c - step (D^T (D c - w) + penalty), 0)

    FISTA (Beck and Teboulle 2009) takes this step not from c but from a point a little further on,
    c + (t - 1) / t' (c - previous c) with t' = (1 + sqrt(1 + 4 t^2)) / 2, which is much faster. It
    stops when no code moves by more than `tolerance` of the largest, or after `steps` steps.
    """
    D = check_array("D", D, (None, None))
    W = check_array("W", W, (None, len(D)))
    penalty = check_number("penalty", penalty, "(0, inf)")
    check_number("tolerance", tolerance, "[0, inf)")
    step = 1 / np.linalg.norm(D, 2)**2
    C = further = np.zeros((len(W), D.shape[1]))
    t = 1.0
    for _ in range(check_whole("steps", steps)):
        slope = (further @ D.T - W) @ D                          # (r, m) @ (m, k) -> (r, k)
        previous, C = C, np.maximum(further - step * (slope + penalty), 0)
        previous_t, t = t, (1 + np.sqrt(1 + 4 * t**2)) / 2
        further = C + (previous_t - 1) / t * (C - previous)
        if np.abs(C - previous).max() <= tolerance * C.max():
            break
    return C


def linear_read_out(W_down, A):
    """W_up (n, m) that reads the circuit A (n, n) out of W_down (m, n) best: A @ D.T."""
    return check_square("A", A) @ dual_directions(W_down).T


def recovery(W_down, W_up, is_real, penalties=(0.001, 0.01, 0.1, 0.3)):
    """How well weights alone tell which are real: average precision of U and of the sparse code.

    W_up is coded in `dual_directions`; of all penalties, in units of the smallest that leaves no
    code at all, the best counts. Returns two floats.
    """
    D = dual_directions(W_down)                                  # (m, n)
    none_left = (check_array("W_up", W_up, (None, len(D))) @ D).max()
    check(len(penalties), "penalties", "at least one", penalties)
    codes = [sparse_code(D, W_up, penalty * none_left) for penalty in penalties]
    weight, *sparse = (average_precision(*precision_recall(score, is_real))
                       for score in (W_up @ W_down, *codes))
    return weight, max(sparse)


# --- 4. How good is a ranking? --------------------------------------------------------------------


def ranking(scores):
    """Flat indices of `scores` from the largest to the smallest; ties stay in reading order.

    (Then a curve over ties depends on the order of features. Only frequencies tie noticeably.)
    """
    scores = check_array("scores", scores, np.shape(scores))
    return np.argsort(-scores.ravel(), kind="stable")


def ranks(scores):
    """The place of each entry in the `ranking`, from 1 on, in the shape of `scores`."""
    order = ranking(scores)
    places = np.empty(len(order), int)
    places[order] = np.arange(1, len(order) + 1)
    return places.reshape(np.shape(scores))


def precision_recall(scores, is_real):
    """(precision, recall), each with one point per kept prefix of the ranking: k = 1 ... size.

    precision_k: share of the first k that is real. recall_k: share of the real ones found in them.
    Ties stay in reading order. Example: scores [3, 1, 2, 1], of which the first two are real, rank
    as entries 0, 2, 1, 3, so precision is [1, 1/2, 2/3, 1/2] and recall [1/2, 1/2, 1, 1].

    Raises ValueError if shapes differ or nothing is real, TypeError if is_real is not boolean.
    """
    order = ranking(scores)
    is_real = check_booleans("is_real", is_real, np.shape(scores))
    found = np.cumsum(is_real.ravel()[order])
    check(found[-1] > 0, "is_real", "true somewhere", "no real weight at all")
    return found / np.arange(1, len(found) + 1), found / found[-1]


def average_precision(precision, recall):
    """Area under a precision-recall curve: sum_k precision_k (recall_k - recall_{k-1}).

    In the example of `precision_recall`: 1 * 1/2 + 2/3 * 1/2 = 5/6. A perfect ranking scores 1, a
    random one about the share of real weights (the base rate).
    """
    recall = check_array("recall", recall, (None,), interval="[0, 1]")
    precision = check_array("precision", precision, recall.shape, interval="[0, 1]")
    gained = np.diff(recall, prepend=0)
    check(gained.min() >= 0, "recall", "non-decreasing", recall)
    return float(np.sum(precision * gained))


def correlation(a, b):
    """Pearson's r of all entries of two arrays, a float."""
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def loss_gain(scores, dL):
    """Cumulative sum of dL over each kept prefix of the ranking, one point per prefix.

    A proxy: it adds up effects measured one at a time. The loss itself is `pruned_loss`.
    """
    order = ranking(scores)
    return np.cumsum(check_array("dL", dL, np.shape(scores)).ravel()[order])


def best_bias(drive, y):
    """The bias of each target that makes E[(relu(drive + b) - y)^2] smallest: exact, and global.

    drive (B, n) is z without its bias. Lower b from infinity and gates shut one by one, that of the
    smallest drive first. While the k largest are open the loss is a parabola in b, with its bottom
    at the mean of y - drive over them, valid for -drive_k <= b <= -drive_{k+1}. So: sort, take the
    k bottoms from cumulative sums, clip each into its interval, keep the best. (All gates shut is
    k = 1 with b clipped to -drive_1.) Gradient steps would stop at a local optimum, and cannot
    reopen a target whose gates are all shut; this can.

    Returns b (n,).
    """
    drive = check_array("drive", drive, (None, None), np.float64)
    y = check_array("y", y, drive.shape, np.float64)
    scale = max(np.abs(drive).max(), np.abs(y).max()) or 1.0             # no square overflows
    order = np.argsort(-drive, axis=0)
    drive, y = (np.take_along_axis(a / scale, order, axis=0) for a in (drive, y))
    k = np.arange(1, len(drive) + 1)[:, None]                            # (B, 1), gates open
    gap = np.cumsum(y - drive, axis=0)                                   # (B, n)
    shut = np.vstack([drive[1:], np.full_like(drive[:1], -np.inf)])      # (B, n), the largest shut
    b = np.clip(gap / k, -drive, -shut)                                  # (B, n)
    square = np.cumsum(drive * (drive - 2 * y), axis=0)                  # (B, n), gap^2 less y^2
    loss = square - 2 * b * gap + k * b**2                               # (B, n)
    best = np.argmin(loss, axis=0)                                       # (n,)
    return scale * b[best, np.arange(len(best))]


def pruned_loss(U, b, x, y, scores, keep, refit_bias=False, importance=None):
    """The true loss of the model that keeps only the `keep` best-scored weights, for each size.

    keep: sizes (whole numbers) in 0..n^2. With refit_bias, each pruned model gets the bias that is
    best on these examples (`best_bias`) instead of b. Returns losses (len(keep),).
    """
    U, b, x, y, importance = checked(U, b, x, y, importance)
    order = ranking(check_array("scores", scores, U.shape))
    losses = []
    for size in check_wholes("keep", keep, 0, U.size):
        pruned = np.zeros_like(U)
        pruned.flat[order[:size]] = U.flat[order[:size]]
        drive = x @ pruned.T                                             # (B, n)
        bias = best_bias(drive, y) if refit_bias else b                  # (n,)
        losses.append(float(squared_error(relu(drive + bias) - y, importance)))
    return np.array(losses)


def inclusion_probabilities(scores, size):
    """How likely to draw each weight into a sample of about `size`, to judge several rankings.

    scores: a list of arrays of one shape. The probability is proportional to the sum over them of
    1 / rank, since what precision depends on is at their tops, and at most 1. Draw independently:
    rng.random(shape) < probability. Returns probabilities in (0, 1] that add up to `size`.
    """
    check_kind("scores", scores, list)
    check(scores, "scores", "at least one array", scores)
    wanted = sum(1 / ranks(check_array("scores", score, np.shape(scores[0]))) for score in scores)
    check_whole("size", size, 1, wanted.size)
    largest_first = np.sort(wanted, axis=None)[::-1]
    rest = np.cumsum(largest_first[::-1])[::-1]      # what is wanted by entry t and all below it
    places = size - np.arange(wanted.size)           # places left if the t above have one for sure
    t = np.argmax(places * largest_first <= rest)    # the first entry that need not be capped
    return np.minimum(1, places[t] / rest[t] * wanted)


def estimated_precision(is_real, rank, probability, k):
    """Precision among the top k of a ranking, from a sample of weights: (estimate, standard error).

    For each weight drawn: is_real by its exact dL (`sampled_effects`), its rank, and the
    probability with which it was drawn, independently of the others. Horvitz and Thompson (1952): a
    weight that is drawn with probability p stands for 1 / p weights, so that

        estimate = 1/k sum_{drawn, rank <= k} is_real / p, of variance
                   1/k^2 sum_{all, rank <= k} is_real (1 - p) / p

    The estimate is right on average, whatever the probabilities; its variance is estimated
    likewise, with each term over p once more. (That misses real weights that were not drawn, so
    intervals are a little short.) Recall has no such estimate: its denominator, the number of all
    real weights, must be estimated as well, from deep ranks where few are drawn.
    """
    is_real = check_booleans("is_real", is_real, (None,))
    rank = check_array("rank", rank, is_real.shape, interval="[1, inf)")
    p = check_array("probability", probability, is_real.shape, interval="(0, 1]")
    check_whole("k", k)
    p = p[is_real & (rank <= k)]
    return float(np.sum(1 / p) / k), float(np.sqrt(np.sum((1 - p) / p**2)) / k)


def sampled_precisions(is_real, rankings, probability, k, rng):
    """Draw one sample of weights and judge several rankings by it: `estimated_precision` of each.

    is_real (n, n): only the entries drawn are looked at; rankings: a list of `ranks` (n, n);
    probability (n, n). Returns (len(rankings), 2): an estimate and its standard error for each.
    """
    check_kind("rng", rng, np.random.Generator)
    drawn = rng.random(np.shape(probability)) < probability
    return np.array([estimated_precision(is_real[drawn], rank[drawn], probability[drawn], k)
                     for rank in rankings])


# --- 5. What structure is in interference? --------------------------------------------------------


def set_mean_component(U, set_size):
    """The part of U that only knows sets: each block of set_size x set_size replaced by its mean.

    Means leave the diagonal of U out, where the real weights sit; the result has it filled in, so
    that its rank is at most the number of sets. Returns (n, n). The note, Appendix 3. Raises
    ValueError unless sets divide features.
    """
    U = check_square("U", U)
    n, size = len(U), check_whole("set_size", set_size, 2, len(U))
    check(n % size == 0, "set_size", f"a divisor of {n}", size)
    sets = n // size
    off_diagonal = U * (1 - np.eye(n, dtype=U.dtype))                    # (n, n)
    totals = off_diagonal.reshape(sets, size, sets, size).sum(axis=(1, 3))
    counts = (size**2 - size * np.eye(sets)).astype(U.dtype)
    return np.kron(totals / counts, np.ones((size, size), U.dtype))


def feature_dimensionality(W):
    """The share of a dimension that each feature has: D_i = |W_i|^2 / sum_j (W_i / |W_i| . W_j)^2.

    W (m, n) holds one column W_i per feature. 1: a dimension of its own; 1/2: an antipodal pair;
    2/5: a pentagon; 0: not represented (W_i = 0). Returns (n,). Toy Models of Superposition
    (Elhage et al. 2022).
    """
    W = check_array("W", W, (None, None), np.float64)
    W = W / (np.abs(W).max() or 1.0)                                     # D does not know the scale
    tiny = np.finfo(np.float64).tiny
    length = np.linalg.norm(W, axis=0)                                   # (n,)
    unit = W / np.maximum(length, tiny)                                  # (m, n)
    return length**2 / np.maximum(np.sum((unit.T @ W)**2, axis=1), tiny)


def nearest_circulant(G):
    """The circulant matrix closest to G: each wrapped diagonal replaced by its mean.

    C_ij depends only on (j - i) mod n, so x -> C @ x is a convolution over the group of n cyclic
    shifts: it commutes with shifting the features (it is equivariant). The mean is the closest
    constant in the sum of squares, and the diagonals do not overlap. Returns C (n, n).
    """
    G = check_square("G", G)
    i, j = np.indices(G.shape)
    means = G[i, (i + j) % len(G)].mean(axis=0)                          # (n,), one per diagonal
    return means[(j - i) % len(G)]


def off_circulant(G):
    """Distance from G (n, n) to the nearest circulant, relative to the length of G; >= 0."""
    return np.linalg.norm(G - nearest_circulant(G)) / np.linalg.norm(G)


def sorted_by_angle(W):
    """U = W.T @ W (n, n) of features in the plane, W (2, n), put in the order of their angles."""
    W = check_array("W", W, (2, None))
    W = W[:, np.argsort(np.arctan2(W[1], W[0]))]
    return W.T @ W


def gaps_between(W):
    """Degrees from each feature in the plane, W (2, n), to the next, leaving out any below 1/2."""
    W = check_array("W", W, (2, None))
    W = W[:, stored_features(W)]
    angles = np.sort(np.degrees(np.arctan2(W[1], W[0])))
    return np.diff(angles, append=angles[0] + 360)


def shared_middle(directions, active, steps=400, learning_rate=0.2):
    """M (m, m) of z = D M D.T x, trained to double the `active` features, one of them per example.

    D = `directions` (n, m), a unit row per feature, stays fixed. With U = D M D.T the chain rule is
    dM = W_up.T @ dU @ W_down.T = D.T @ dU @ D. Plain gradient descent, from 0.001 I: at M = 0 every
    gate is shut. Descent, unlike Adam, never leaves the span of its gradients.

    What two circuits do to each other, for unit directions d_1, d_2 at an angle t in [90, 180]
    degrees: alone, descent from 0 arrives at M_i = 2 d_i d_i^T, the smallest M with d_i M d_i = 2.
    Together it grows both outer products, M = c (d_1 d_1^T + d_2 d_2^T), as the cross outputs,
    2 c cos t <= 0, are shut by the relu. Then d_1 M d_1 = c (1 + cos^2 t) = 2, so

        M = (M_1 + M_2) / (1 + cos^2 t):    1 at 90 degrees (weights add), 1/2 at 180 (shared)

    Below 90 degrees the cross outputs are positive and must be unlearned. The note, Appendix 1.
    """
    D = check_array("directions", directions, (None, None))
    n, m = D.shape
    M = 0.001 * np.eye(m)
    x = np.eye(n)[check_wholes("active", active, 0, n - 1)]              # (B, n)
    for _ in range(check_whole("steps", steps)):
        lifted = LiftedModel(D @ M @ D.T, np.zeros(n))
        dU = lifted.loss_and_gradients(x, 2 * x)[1]["U"]                 # (n, n)
        M -= learning_rate * D.T @ dU @ D
    return M


def sharing(degrees):
    """Two circuits at an angle: (joint matrix over the sum of the separate ones, error of a guess).

    The ratio is that of the component of M along M_1 + M_2; the note's guess for M is the larger of
    M_1 and M_2 entry by entry, and its error |M - guess| / |M|.
    """
    t = np.radians(check_number("degrees", degrees, "[0, 180]"))
    D = np.array([[1, 0], [np.cos(t), np.sin(t)]])
    M, M_1, M_2 = (shared_middle(D, active) for active in ([0, 1], [0], [1]))
    total, guess = M_1 + M_2, np.where(np.abs(M_1) > np.abs(M_2), M_1, M_2)
    return np.vdot(M, total) / np.vdot(total, total), np.linalg.norm(M - guess) / np.linalg.norm(M)


# --- 6. What does interference do? ----------------------------------------------------------------


def attribution_graph(U, b, x):
    """The weights as one example x (n,) uses them: edges U_ij x_j into targets that fire, (n, n).

    Circuit Tracing (Ameisen et al. 2025), for a model without attention or layers.
    """
    U, b, x = checked(U, b, check_array("x", x, (None,))[None])
    fires = preactivations(U, b, x) > 0                                  # (1, n)
    return fires.T * U * x


def graph_precision(U, b, is_real, x):
    """What makes one example's graph cleaner than the weights: attribution, or what it leaves out?

    An edge is in play if its source is active and its target fires. Ranks an example's edges in
    play by attribution U_ij x_j, and by U_ij alone; precision is that among as many edges as there
    are real ones in play. Chance is the share of real ones.

    Returns a dict of means over the examples x (B, n) with a real edge in play, "attribution",
    "weight" and "chance", and "none", the share of examples without.
    """
    U, b, x = checked(U, b, x)
    is_real = check_booleans("is_real", is_real, U.shape)
    fires = preactivations(U, b, x) > 0                                  # (B, n)
    shares = {"attribution": [], "weight": [], "chance": []}
    for example, targets in zip(x, fires):
        in_play = np.ix_(targets, example > 0)
        real = is_real[in_play]
        if real.any():
            for name, score in (("attribution", U * example), ("weight", U)):
                precision, _ = precision_recall(score[in_play], real)
                shares[name].append(precision[real.sum() - 1])
            shares["chance"].append(real.mean())
    found = len(shares["chance"])
    check(found, "x", "examples of which one has a real edge in play", f"{len(x)} without")
    return {**{name: float(np.mean(share)) for name, share in shares.items()},
            "none": 1 - found / len(x)}


def push_gain(U, b, x, directions, size=0.1):
    """How far output i moves if x is pushed along row i of `directions`, over its own weight U_ii.

    Before the relu a push of length `size` along the unit vector d moves z_i by size U_i . d, U_i
    being row i of U. That is largest for d = U_i / |U_i|: the worst case, an adversarial example.
    In a tied model U_ij = W_i . W_j, so |U_i|^2 = sum_j (W_i . W_j)^2 = |W_i|^4 / D_i with D_i the
    `feature_dimensionality`; and U_ii = |W_i|^2, so that

        worst-case gain = |U_i| / U_ii = 1 / sqrt(D_i)

    the root of the number of features that share a dimension. A random direction: |U_i| / sqrt(n).

    Returns (n,): means over the examples x (B, n) in which target i fires, nan where it never does.
    Toy Models of Superposition (Elhage et al. 2022), section on adversarial examples.
    """
    U, b, x = checked(U, b, x)
    directions = check_array("directions", directions, U.shape, U.dtype)
    check(directions.any(axis=1).all(), "directions", "rows that are not 0", "a row of zeros")
    size = check_number("size", size, "(0, inf)")
    y_hat = relu(preactivations(U, b, x))                                # (B, n)
    gain = np.full(len(U), np.nan)
    for i in np.flatnonzero(y_hat.any(axis=0)):
        fires = y_hat[:, i] > 0                                          # (B,)
        pushed = x[fires] + size * directions[i] / np.linalg.norm(directions[i])
        moved = relu(preactivations(U, b, pushed))[:, i] - y_hat[fires, i]
        gain[i] = moved.mean() / (size * U[i, i])
    return gain


def steering_vector(h, active):
    """Difference of means: mean h where a feature is active minus mean h where it is not, (m,).

    h (B, m) activations, active (B,) booleans, neither all true nor all false. The recipe of
    Persona Vectors (arXiv 2507.21509).
    """
    h = check_array("h", h, (None, None))
    active = check_booleans("active", active, (len(h),))
    check(0 < active.sum() < len(h), "active", "true for some examples, not for all", active.sum())
    return h[active].mean(axis=0) - h[~active].mean(axis=0)


def steering_side_effects(model, x, feature):
    """What steering one feature of a tied model does to all others: (before, after) the relu.

    h moves along the `steering_vector` of feature j, scaled so that its own z_j moves by 1. The
    vector is W_j, estimated; along W_j / |W_j|^2 the others move by W_k . W_j / |W_j|^2, so that
    their squared side effects add up, by the definition of the dimensionality D_j, to

        before = sum_{k != j} (W_k . W_j)^2 / |W_j|^4 = 1 / D_j - 1

    one for each feature that j shares a dimension with. The relu hides what stays below 0:

        after = sum_{k != j} E[(change of y_hat_k)^2] / E[(change of y_hat_j)^2]

    Returns two floats, measured on the examples x (B, n).
    """
    check_kind("model", model, TiedModel)
    x = check_array("x", x, (None, len(model.b)), model.b.dtype)
    j = check_whole("feature", feature, 0, len(model.b) - 1)
    z, h = model.preactivations(x)                                       # (B, n), (B, m)
    push = steering_vector(h, x[:, j] > 0) @ model.W                     # (m,) @ (m, n) -> (n,)
    check(push[j] > 0, "feature", "one that is stored", j)
    push = push / push[j]                                                # (n,)
    change = squares(relu(z + push) - relu(z))                           # (n,)
    return float(np.sum(push**2) - 1), float(change.sum() / change[j] - 1)


def checked(U, b, x, *answers):
    """U (n, n), b (n,), x (B, n), if given also y (B, n) and importance (n,): all in U's dtype."""
    U = check_square("U", U)
    n, dtype = len(U), U.dtype
    b = check_array("b", b, (n,), dtype)
    x = check_array("x", x, (None, n), dtype)
    if not answers:
        return U, b, x
    y, importance = answers
    y = check_array("y", y, x.shape, dtype)
    importance = np.ones(n) if importance is None else importance
    return U, b, x, y, check_array("importance", importance, (n,), interval="[0, inf)")


# --- 7. Trained configurations, for figures, exercises and tests ----------------------------------


class Trained:
    """A trained model with what is measured on it, each once, when it is first asked for.

    Two samples of data, neither seen in training: x, y to label weights with (dL, is_real), and
    `other` to score them with, so that no score knows the noise of the labels. Models are shared,
    so every array is read-only: copy what you want to change.
    """

    def __init__(self, task, model, seed, examples=32768):
        self.task, self.model, self.seed, self.examples = task, model, seed, examples
        for array in (task.A, task.v, *model.parameters.values()):
            frozen(array)
        self.U, self.b = frozen(model.virtual_weights()), model.b

    @cached_property
    def labelled(self):
        return sampled(self.task, (self.seed, 1), self.examples)

    @cached_property
    def other(self):
        return sampled(self.task, (self.seed, 2), self.examples)

    @property
    def x(self):
        return self.labelled[0]

    @property
    def y(self):
        return self.labelled[1]

    @cached_property
    def loss(self):
        return self.loss_with(self.U, self.b)

    @property
    def over_constant(self):
        """The loss over that of the best constant answer, which is the variance of y."""
        return self.loss / self.y.var(axis=0).sum()

    @cached_property
    def dL(self):
        return frozen(ablation_effects(self.U, self.b, self.x, self.y))

    @cached_property
    def is_real(self):
        return frozen(self.dL > THRESHOLD)

    @cached_property
    def scores(self):
        """`all_scores` on the other sample; "ceiling" is its exact dL, the best that one can do."""
        scores = all_scores(self.U, self.b, *self.other)
        scores["ceiling"] = ablation_effects(self.U, self.b, *self.other)
        return {name: frozen(score) for name, score in scores.items()}

    @cached_property
    def live(self):
        return frozen(~silent_targets(self.U, self.b, self.x))

    def loss_with(self, U, b):
        """The loss on x, y with other weights and another bias."""
        return LiftedModel(U, b).loss(self.x, self.y)

    def average_precision(self, score, targets=slice(None)):
        """How well a score, or the one of that name, finds the real weights into some targets."""
        score = self.scores[score] if isinstance(score, str) else score
        return average_precision(*precision_recall(score[targets], self.is_real[targets]))


def frozen(array):
    """The same array, from now on read-only."""
    array.flags.writeable = False
    return array


@lru_cache(maxsize=2)
def sampled(task, seed, examples):
    """x, y of a task, read-only: one copy for the models of `block_stages`, as memory is short."""
    x, y = task.batch(np.random.default_rng(seed), examples)
    return frozen(x), frozen(y)


def counter(done, steps):
    """A live count of training steps, on a terminal only."""
    if sys.stderr and sys.stderr.isatty() and (done % 100 == 0 or done == steps):
        print(f"  training: step {done} of {steps}\x1b[K", end="\r", file=sys.stderr, flush=True)


@lru_cache(maxsize=None)
def pentagon_models(seed, density, decay, starts=4):
    """5 features in 2 dimensions, importance decay^i, from a few starts: (loss, Trained) of each.

    The best comes first. A start can end in a worse arrangement, so several are always tried.
    """
    task = identity_task(5, density, importance=decay ** np.arange(5))
    x, y = task.batch(np.random.default_rng((seed, 1)), 32768)
    trained = []
    for start in range(starts):
        model = TiedModel.initialise(np.random.default_rng((seed, start)), 5, 2)
        train(model, task, 1500, 1024, 1e-2, seed, "cosine", progress=counter)
        trained.append((model.loss(x, y, task.importance), Trained(task, model, seed)))
    return tuple(sorted(trained, key=lambda pair: pair[0]))


def failed_starts(models):
    """How many of `pentagon_models` ended more than 10 % above the best loss.

    (A few percent is noise: losses come from the rare examples in which neighbours meet.)
    """
    return sum(loss > 1.1 * models[0][0] for loss, _ in models)


@lru_cache(maxsize=None)
def film(seed, steps):
    """The parameters of a pentagon model and of a simple model after so many training steps."""
    small = TiedModel.initialise(np.random.default_rng(seed), 5, 2, scale=0.3)
    large = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    options = {"steps": max(steps), "seed": seed, "snapshots": steps, "progress": counter}
    runs = (train(small, identity_task(5, 0.05), learning_rate=1e-2, **options).snapshots,
            train(large, identity_task(100, 0.02), **options).snapshots)
    for snapshot in (*runs[0].values(), *runs[1].values()):
        frozen(snapshot["W"])
    return runs


@lru_cache(maxsize=None)
def simple_model(seed, steps=300, density=0.02, batch_size=1024, learning_rate=1e-3,
                 schedule="constant"):
    """The simple configuration: a tied model gives back 100 features through 20 dimensions.

    300 steps leave it undertrained, as the note does on purpose.
    """
    task = identity_task(100, density)
    model = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    train(model, task, steps, batch_size, learning_rate, seed, schedule, progress=counter)
    return Trained(task, model, seed)


def converged_model(seed, density, batch_size=1024):
    """The simple configuration after 3000 steps at three times the learning rate, on a cosine."""
    return simple_model(seed, 3000, density, batch_size, 3e-3, "cosine")


@lru_cache(maxsize=None)
def block_model(seed, run=0, density=0.3, steps=2000):
    """The block configuration: an untied model learns a block circuit on 128 features through 16.

    `seed` fixes the circuit; each run trains on it independently. Stopped early: most targets are
    still silent, and the loss is only a little below that of the best constant answer.
    """
    task = block_task(seed=seed, density=density)
    model = UntiedModel.initialise(np.random.default_rng((seed, run)), 128, 16)
    train(model, task, steps, 256, 1e-3, (seed, run), progress=counter)
    return Trained(task, model, seed)


@lru_cache(maxsize=None)
def block_stages(seed, run, steps):
    """The block configuration at several numbers of training steps: a Trained for each."""
    task = block_task(seed=seed)
    model = UntiedModel.initialise(np.random.default_rng((seed, run)), 128, 16)
    history = train(model, task, max(steps), 256, 1e-3, (seed, run), snapshots=steps,
                    progress=counter)
    return tuple(Trained(task, UntiedModel(**history.snapshots[step]), seed) for step in steps)


@lru_cache(maxsize=None)
def block_mask(seed):
    """The learned mask of the block model as booleans (n, n), and the bias trained with it (n,)."""
    model = block_model(seed)
    mask, b = learned_mask(model.U, model.b, model.task, seed=seed, progress=counter)
    return frozen(mask > 0.5), frozen(b)


@lru_cache(maxsize=None)
def correlated_model(seed):
    """Two sets of 100 features that are never active together, through 20 dimensions."""
    task = correlated_task(100, n_active=2)
    model = TiedModel.initialise(np.random.default_rng(seed), task.n_features, 20)
    train(model, task, 2000, 1024, 2e-3, seed, progress=counter)
    return Trained(task, model, seed, examples=16384)


def stored_features(W):
    """Indices of the features that a tied model represents: W_i longer than 1/2."""
    return np.flatnonzero(np.linalg.norm(W, axis=0) > 0.5)


def worst_and_random_gains(trained, examples=1024):
    """For each stored feature of a tied model: (1 / D, worst `push_gain`, gain at random)."""
    rng, U, W = np.random.default_rng((trained.seed, 4)), trained.U, trained.model.W
    x, _ = trained.task.batch(rng, examples)
    worst, random = (push_gain(U, trained.b, x, directions)
                     for directions in (U, rng.normal(size=U.shape)))
    return np.array([1 / feature_dimensionality(W), worst, random])[:, stored_features(W)]


def mean_side_effects(trained, features=10):
    """Means over the first stored features: (1 / D - 1, `steering_side_effects` before, after)."""
    model, W = trained.model, trained.model.W
    stored = stored_features(W)[:features]
    law = 1 / feature_dimensionality(W)[stored] - 1
    effects = [steering_side_effects(model, trained.x[:16384], j) for j in stored]
    return law.mean(), *np.mean(effects, axis=0)
