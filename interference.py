"""Which virtual weights are real? Definitions, exact measurements and cheap heuristics.

Lift a trained toy model back to feature space and it is one matrix U (n, n) with a bias b (n,):
y_hat = relu(x @ U.T + b). A few entries of U are the circuit that the task asks for (real weights);
most exist only because features share dimensions (interference weights). This file asks, in order:

    1  What does each weight do?          exact ablation, standard errors, second-order estimate
    2  Which weights are real?            Definition 1 (ideal), Definition 2 (loss), learned mask
    3  Can real ones be found cheaply?    from activations (ERA and its kin), from geometry (codes)
    4  How good is a ranking?             precision and recall, loss gain, loss of a pruned model
    5  What structure is in it?           set means, feature dimensionality, circulants, sharing
    6  What does interference do?         attribution graphs, worst cases, steering
    7  Trained configurations             the models that figures, exercises and tests share

Notation: the table at the top of `toymodel.py`. U is square throughout. Products with examples are
taken in U's dtype, sums over chunks of them and geometry in float64. Wrong shapes and entries that
are not finite raise ValueError, what is not an array of real numbers TypeError. "The note" is A Toy
Model of Interference Weights (Olah, Turner, Conerly 2025); what is from elsewhere names its source.
"""
from toymodel import (LiftedModel, MaskedModel, Task, TiedModel, UntiedModel, block_task, check,
                      check_array, check_booleans, check_kind, check_number, check_square,
                      check_whole, check_wholes, correlated_task, generator, identity_task, relu,
                      squared_error, squares, train)  # first, as it pins BLAS threads

import sys
from functools import cached_property, lru_cache

import numpy as np

TINY = np.finfo(np.float64).tiny  # in place of 0, where something is divided by it


# --- 1. What does each weight do? -----------------------------------------------------------------


def preactivations(U, b, x):
    """z = x @ U.T + b (B, n): what the relu of the lifted model sees."""
    return x @ U.T + b


def ablations(U, b, x):
    """Yield, for each chunk of examples and source j, what each ablation of U_ij does to output i.

    Ablating U_ij moves z_i by -U_ij x_j and touches nothing else, and where x_j = 0 not even that.
    So go over sources, and for each only over the examples in which it is active: n steps for each
    active feature, not n^2 for each example. Chunks are so small that one source's rows stay in the
    processor's cache.

    Yields j, rows (R,) of x, and y_hat (R, n) before and after: entry i of `after` without U_ij.
    """
    active_per_example = max(1, np.count_nonzero(x) // len(x))
    chunk = min(4096, 1 + 2**16 // active_per_example)           # so that R n is about 2^16 numbers
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
    at a time. (Differences that are all equal give 0, up to rounding.) Needs two examples.
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
    """`ablation_effects` of the k weights U[targets, sources] only, (k,), in k (n + 1) B steps.

    Ground truth on a sample of weights, for models too large for all of them: labels from it, those
    above THRESHOLD, go into `estimated_lead`.
    """
    U, b, x, y, importance = checked(U, b, x, y, importance)
    targets = check_wholes("targets", targets, 0, len(U) - 1)
    sources = check_wholes("sources", sources, 0, len(U) - 1)
    check(len(targets) == len(sources) > 0, "sources", f"as many as targets, {len(targets)}, and "
          "not none", len(sources))
    dL = []
    for i, j in zip(targets, sources):
        z = x @ U[i] + b[i]                                      # (B,)
        after = relu(z - U[i, j] * x[:, j])                      # (B,)
        change = (after - y[:, i])**2 - (relu(z) - y[:, i])**2   # (B,)
        dL.append(importance[i] * change.mean(dtype=np.float64))
    return np.array(dL)


def second_order_effects(U, b, x, y, importance=None):
    """`ablation_effects` as if no gate flipped: two matrix products beyond the forward pass.

    With gates gate_i = 1[z_i > 0] held fixed the loss is a quadratic in U_ij; setting it to 0 gives

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

    Turner, Wu and Batson (2026), *Characterizing interference weights in a tiny language model*,
    for squared error. Whether the movement helps is `ablation_effects`. Returns (n, n), >= 0.
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

THRESHOLD = 1e-4  # Definition 2: a weight is real if ablating it raises the loss by more


def ideal_weights(U, b, task, l1=1e-4, steps=3000, batch_size=256, learning_rate=0.003, seed=0,
                  train_bias=True, progress=None):
    """Definition 1: what the weights become once every one of them is free (n x n, no bottleneck).

    Trains U and b, starting from the model's, with the small penalty l1 * sum|U|, which decides
    about weights that the data leave free. A gate that is shut on every example would never open,
    so biases start no lower than where the mean of z is 0. The answer depends on the start, and the
    learning rate must be small: at ten times this one, some gates of the learned model shut before
    their weights have grown. With train_bias=False, b stays and the weights have to make up for it.

    Returns (U_star (n, n), b_star (n,)), which belong together. The note, section "Real weights".
    """
    check_kind("task", task, Task)
    x, _ = task.batch(generator(seed), batch_size)
    U, b, x = checked(U, b, x)
    lifted = LiftedModel(U, b, l1)
    if train_bias:
        lifted.b = np.maximum(b, -(x @ U.T).mean(axis=0))
    else:
        lifted.parameter_names = ("U",)                          # what `train` updates
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

    Minimises the loss of the model with weights U * mask plus penalty * sum(mask), over the mask,
    which starts at 1/2, and the bias, which makes up for what removed weights added on average.
    Returns (mask (n, n) in [0, 1], b (n,)).
    """
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

    Circuit Tracing, section "Global Weights". For a target that almost never fires the ratio rests
    on a few examples and is as large as for any other, so silent targets fill the top. The note
    describes its heuristic as weights with big effects on big things: read so, nothing is divided,
    and normalise=False gives E[y_hat_i x_j] U_ij. A target that never fires scores 0.
    """
    U, b, x = checked(U, b, x)
    y_hat = relu(preactivations(U, b, x))                        # (B, n)
    score = y_hat.T @ x / len(x) * U                             # (n, B) @ (B, n) -> (n, n)
    if normalise:
        mean = y_hat.mean(axis=0, dtype=np.float64)              # (n,)
        score = score / np.maximum(mean, TINY)[:, None]
    return score


def coactivation_frequency(U, b, x):
    """P(x_j > 0 and y_hat_i > 0), (n, n). No weight in it: what do activations alone tell?"""
    U, b, x = checked(U, b, x)
    fires = (preactivations(U, b, x) > 0).astype(U.dtype)        # (B, n)
    return fires.T @ (x > 0).astype(U.dtype) / len(x)            # (n, B) @ (B, n) -> (n, n)


def activity_covariance(U, b, x):
    """Cov(y_hat_i, x_j) = E[(y_hat_i - E y_hat_i) x_j], (n, n). No weight in it, again."""
    U, b, x = checked(U, b, x)
    y_hat = relu(preactivations(U, b, x))                        # (B, n)
    return (y_hat - y_hat.mean(axis=0)).T @ x / len(x)           # (n, B) @ (B, n) -> (n, n)


def silent_targets(U, b, x):
    """Which targets hardly ever fire: mean output at most 1 % of the largest, (n,) booleans."""
    U, b, x = checked(U, b, x)
    mean = relu(preactivations(U, b, x)).mean(axis=0)            # (n,)
    return mean <= 0.01 * mean.max()


def linear_read_out(W_down, A):
    """U = A P (n, n): the best that linear weights can do for a circuit A behind W_down (m, n).

    For uncorrelated features of equal variance (a bias takes up their means) the W_up that comes
    closest to A x is A W_down^+ (^+: the pseudo-inverse), so that U = A P with P = W_down^+ W_down,
    the projection onto the rows of W_down. Column j of P is what is left of feature j.
    Interference is A (P - I).
    """
    A = check_square("A", A)
    W_down = check_array("W_down", W_down, (None, len(A)), np.float64)
    return A @ np.linalg.pinv(W_down) @ W_down


def row_space(U):
    """V (r, n): orthonormal rows that span those of U, r its rank. P = V.T @ V projects on them.

    Singular values below 1e-5 of the largest are taken for rounding in float32.
    """
    _, sizes, V = np.linalg.svd(check_square("U", U).astype(np.float64))
    check(sizes[0] > 0, "U", "not all zeros", "zeros")
    return V[sizes > 1e-5 * sizes[0]]


def cosine_score(U, V=None):
    """How well what target i reads fits where source j is stored: cos(U_i, P_j), (n, n).

    Row U_i is what target i reads, and column P_j of the projection onto the rows of U is where
    source j is (`linear_read_out`). As U P = U, the weight U_ij is the inner product of the two,
    and this score is the weight without their lengths. V: another `row_space`, as a control.
    """
    U = check_square("U", U)
    V = row_space(U) if V is None else V                # its rows are orthonormal: |P_j| = |V_j|
    lengths = np.outer(np.linalg.norm(U, axis=1), np.linalg.norm(V, axis=0))
    return U @ V.T @ V / np.maximum(lengths, TINY)


def sparse_code(D, W, penalty, steps=2000, tolerance=1e-4, unit_atoms=True):
    """Each row of W (q, m) from few columns of D (m, p): codes C (q, p) >= 0 of a small sum.

    Compressed sensing, as a non-negative lasso for every row w of W: find c >= 0 with the smallest

        F(c) = 1/2 |D c - w|^2 + penalty sum_a c_a

    with the columns of D, the atoms, first divided by their lengths, so that the penalty is the
    same price for all of them. (unit_atoms=False shows what it costs not to.)

    The smooth half has gradient D^T (D c - w), which changes by at most |D|^2 |c - c'| from c to c'
    (|D|: the largest singular value). So with step = 1 / |D|^2 the parabola of curvature 1 / step
    that touches it at c lies above it everywhere, and F falls if c moves to the bottom of parabola
    plus penalty: a gradient step, then a soft threshold that also keeps c >= 0,

        c <- max(c - step (D^T (D c - w) + penalty), 0)

    FISTA (Beck and Teboulle 2009) takes this step not from c but from a point a little further on,
    c + (t - 1) / t' (c - previous c) with t' = (1 + sqrt(1 + 4 t^2)) / 2, which is much faster. It
    stops when no code moves by more than `tolerance` of the largest of all rows, or after `steps`
    steps: not yet exact, but run longer, no average precision here changes by more than 0.0004.
    """
    D = check_array("D", D, (None, None), np.float64)
    W = check_array("W", W, (None, len(D)), np.float64)
    penalty = check_number("penalty", penalty, "(0, inf)")
    check_number("tolerance", tolerance, "[0, inf)")
    if unit_atoms:
        D = D / np.maximum(np.linalg.norm(D, axis=0), TINY)
    step = 1 / np.linalg.norm(D, 2)**2
    C = further = np.zeros((len(W), D.shape[1]))
    t = 1.0
    for _ in range(check_whole("steps", steps)):
        slope = (further @ D.T - W) @ D                          # D^T (D c - w) in each row
        previous, C = C, np.maximum(further - step * (slope + penalty), 0)
        previous_t, t = t, (1 + np.sqrt(1 + 4 * t**2)) / 2
        further = C + (previous_t - 1) / t * (C - previous)
        if np.abs(C - previous).max() <= tolerance * C.max():
            break
    return C


def code_score(U, penalty=0.01, V=None, unit_atoms=True):
    """A sparse circuit that U could be a linear read-out of: the code of U = A P in P, (n, n) >= 0.

    A row U_i = A_i P is a sum of columns of P, in infinitely many ways; one of few and positive
    terms is a guess at A, entry by entry at A_ij |P_j|, as atoms have unit length. In coordinates
    of the row space that is `sparse_code` of U V^T in V. penalty is a share of the smallest one
    that leaves no code at all. V: another `row_space`, as a control.
    """
    U = check_square("U", U)
    V = row_space(U) if V is None else V
    W = U @ V.T                                                  # (n, n) @ (n, r) -> (n, r)
    atoms = V / np.maximum(np.linalg.norm(V, axis=0), TINY) if unit_atoms else V
    none_left = (W @ atoms).max()
    check(none_left > 0, "U", "positive along directions of its rows", U)
    return sparse_code(V, W, penalty * none_left, unit_atoms=unit_atoms)


def relative_code_length(U, seed=0):
    """How short the codes of U's rows are beside those of random rows, a number: trust below 0.7.

    Median over rows of (sum of code / length of row), over the same for random mixtures of U's own
    rows. 1: no sparser than chance, so the code knows nothing of the circuit. No labels.
    """
    U = check_square("U", U)
    V = row_space(U)
    W = U[U.any(axis=1)] @ V.T                                   # (n, n) @ (n, r) -> (n, r)
    mixtures = generator(seed).normal(size=(len(W), len(W))) @ W
    medians = []
    for rows in (W, mixtures):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        medians.append(np.median(sparse_code(V, rows, penalty=0.01).sum(axis=1)))
    check(medians[0] > 0, "U", "positive along directions of its rows, in most rows", U)
    return medians[0] / medians[1]


def combined_ranks(*scores):
    """minus the sum of the log ranks of several scores (n, n): large if all rank a weight high.

    If interference is the rule, rank / n^2 is roughly the p-value of a weight, and Fisher combines
    p-values of independent tests by the sum of their logarithms. Here that is a heuristic: weight
    and cosine are not independent. One very high place outweighs several middling ones.
    """
    return -sum(np.log(ranks(score)) for score in scores)


def geometry(U):
    """Weight, cosine and sparse code of U by `combined_ranks`, (n, n). No data, answers or bias."""
    return combined_ranks(U, cosine_score(U), code_score(U))


def geometry_score(W_down, W_up):
    """`geometry` of U = W_up @ W_down (n, n), for W_down (m, n) and W_up (n, m)."""
    W_down = check_array("W_down", W_down, (None, None))
    return geometry(check_array("W_up", W_up, W_down.shape[::-1]) @ W_down)


def silent_last(score, silent):
    """The score (n, n) with the weights into silent targets (n,) moved below all others."""
    return np.where(silent[:, None], score - 2 * (np.ptp(score) or 1), score)


def all_scores(U, b, x, y):
    """Every score by its name, (n, n) each; the weight most likely real scores highest.

    "twera" is as published, "target_weighted" as the note's words say.
    """
    by_geometry = geometry(U)
    return {"weight": weight_score(U), "cosine": cosine_score(U), "geometry": by_geometry,
            "live_geometry": silent_last(by_geometry, silent_targets(U, b, x)),
            "era": expected_attribution(U, b, x),
            "twera": target_weighted_attribution(U, b, x),
            "target_weighted": target_weighted_attribution(U, b, x, normalise=False),
            "frequency": coactivation_frequency(U, b, x),
            "covariance": activity_covariance(U, b, x),
            "effectiveness": effectiveness(U, b, x),
            "second_order": second_order_effects(U, b, x, y)}


def geometry_and_controls(U, seed=0):
    """`geometry`, its parts, and what becomes of it if something is taken away: a dict of (n, n).

    "raw code": with atoms of any length; "shuffled": with the directions of sources permuted.
    """
    V, code = row_space(U), code_score(U)
    mixed = V[:, generator((seed, 8)).permutation(len(U))]
    return {"weight": U, "code": code, "raw code": code_score(U, unit_atoms=False),
            "geometry": combined_ranks(U, cosine_score(U), code),
            "shuffled": combined_ranks(U, cosine_score(U, mixed), code_score(U, V=mixed))}


# --- 4. How good is a ranking? --------------------------------------------------------------------


def ranking(scores):
    """Flat indices of `scores` from the largest to the smallest; ties stay in reading order."""
    scores = check_array("scores", scores, np.shape(scores))
    return np.argsort(-scores.ravel(), kind="stable")


def ranks(scores):
    """The place of each entry, from 1 for the largest; ties share the mean of their places."""
    scores = check_array("scores", scores, np.shape(scores))
    _, group, sizes = np.unique(-scores.ravel(), return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group].reshape(scores.shape)


def precision_recall(scores, is_real):
    """(precision, recall), each with one point per kept prefix of the ranking: k = 1 ... size.

    precision_k: share of the first k that is real. recall_k: share of the real ones found in them.
    Example: scores [3, 1, 2, 1], of which the first two are real, rank as entries 0, 2, 1, 3, so
    precision is [1, 1/2, 2/3, 1/2] and recall [1/2, 1/2, 1, 1].

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
    """The bias b (n,) with the smallest E[(relu(drive + b) - y)^2] per target: exact, and global.

    drive (B, n) is z without its bias. Lower b from infinity and gates shut one by one, that of the
    smallest drive first. While the k largest are open the loss is a parabola in b, with its bottom
    at the mean of y - drive over them, valid for -drive_k <= b <= -drive_{k+1}. So: sort, take the
    k bottoms from cumulative sums, clip each into its interval, keep the best. (All gates shut is
    k = 1 with b clipped to -drive_1.) Gradient steps would stop at a local optimum, and cannot
    reopen a target whose gates are all shut.
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
    square = np.cumsum(drive * (drive - 2 * y), axis=0)                  # (B, n)
    loss = square - 2 * b * gap + k * b**2               # (B, n), times B and less the sum of y^2
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


def disagreement(scores, others, k):
    """Which weights are in the top k of one ranking only: (flat indices (s,), signs (s,)).

    Sign +1: in the top k by `scores`; -1: by `others`. The precisions of the two among their top k
    differ by sum(sign * is_real) / k, so nothing needs to be known of any other weight.
    """
    first, second = ranking(scores), ranking(others)
    check_whole("k", k, 1, len(first))
    check(len(first) == len(second), "others", f"{len(first)} scores", len(second))
    disputed = np.setxor1d(first[:k], second[:k])
    return disputed, np.where(np.isin(disputed, first[:k]), 1, -1)


def estimated_lead(is_real, signs, of, k):
    """How much more precise one ranking is among its top k: (estimate, standard error), two floats.

    `of` weights are in a `disagreement`; of s of them, drawn without replacement, labels and signs
    are known. With d = sign * is_real of mean and variance over the s,

        lead = of / k * mean(d), of variance (of / k)^2 (1 - s / of) variance(d) / s

    a simple random sample, the Horvitz-Thompson (1952) estimate for equal chances: right on
    average, its variance too. With few labels +-1.96 errors are a rough interval; an error of 0
    says that all labels were alike, not that the lead is certain.
    """
    is_real = check_booleans("is_real", is_real, (None,))
    check(len(is_real) >= 2, "is_real", "at least two labels", len(is_real))
    signs = check_array("signs", signs, is_real.shape)
    check(np.all(np.abs(signs) == 1), "signs", "+1 or -1", signs)
    check_whole("of", of, len(signs))
    check_whole("k", k)
    d = signs * is_real
    error = of / k * np.sqrt((1 - len(d) / of) * d.var(ddof=1) / len(d))
    return float(of / k * d.mean()), float(error)


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
    length = np.linalg.norm(W, axis=0)                                   # (n,)
    unit = W / np.maximum(length, TINY)                                  # (m, n)
    return length**2 / np.maximum(np.sum((unit.T @ W)**2, axis=1), TINY)


def stored_features(W):
    """Indices of the features that a tied model represents: W_i longer than 1/2."""
    return np.flatnonzero(np.linalg.norm(W, axis=0) > 0.5)


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
    """Distance from G (n, n), not all zeros, to the nearest circulant, over the length of G."""
    return np.linalg.norm(G - nearest_circulant(G)) / np.linalg.norm(G)


def sorted_by_angle(W):
    """U = W.T @ W (n, n) of features in the plane, W (2, n), put in the order of their angles."""
    W = check_array("W", W, (2, None))
    W = W[:, np.argsort(np.arctan2(W[1], W[0]))]
    return W.T @ W


def gaps_between(W):
    """Degrees from each stored feature in the plane, W (2, n), to the next."""
    W = check_array("W", W, (2, None))
    W = W[:, stored_features(W)]
    angles = np.sort(np.degrees(np.arctan2(W[1], W[0])))
    return np.diff(angles, append=angles[:1] + 360)


def shared_middle(directions, active):
    """M (m, m) of z = D M D.T x, trained to double the `active` features, one of them per example.

    D = `directions` (n, m), a unit row per feature, stays fixed. U = D M D.T has W_up = D and
    W_down = M D.T, so by the chain rule dM = D.T @ dU @ D. Plain gradient descent, 400 steps from
    0.001 I: at M = 0 every gate is shut. (Unlike Adam it never leaves the span of its gradients.)

    What two circuits do to each other, for unit directions d_1, d_2 at an angle t in [90, 180]
    degrees: alone, descent arrives at M_i = 2 d_i d_i^T, the smallest M with d_i^T M d_i = 2.
    Together it grows both outer products, M = c (d_1 d_1^T + d_2 d_2^T), as the cross outputs,
    2 c cos t <= 0, are shut by the relu. Then d_1^T M d_1 = c (1 + cos^2 t) = 2, so

        M = (M_1 + M_2) / (1 + cos^2 t):    1 at 90 degrees (weights add), 1/2 at 180 (shared)

    up to the 0.001. Below 90 degrees cross outputs are positive and must be unlearned. The note,
    Appendix 1.
    """
    D = check_array("directions", directions, (None, None))
    n, m = D.shape
    M = 0.001 * np.eye(m)
    x = np.eye(n)[check_wholes("active", active, 0, n - 1)]              # (B, n)
    for _ in range(400):
        lifted = LiftedModel(D @ M @ D.T, np.zeros(n))
        dU = lifted.loss_and_gradients(x, 2 * x)[1]["U"]                 # (n, n)
        M -= 0.2 * D.T @ dU @ D
    return M


def sharing(degrees):
    """Two circuits at an angle: (joint matrix over the sum of the separate ones, error of a guess).

    The ratio is that of the component of M along M_1 + M_2; the note's guess for M is the larger of
    M_1 and M_2, in absolute value, entry by entry, and its error |M - guess| / |M|.
    """
    t = np.radians(check_number("degrees", degrees, "[0, 180]"))
    D = np.array([[1, 0], [np.cos(t), np.sin(t)]])
    M, M_1, M_2 = (shared_middle(D, active) for active in ([0, 1], [0], [1]))
    total, guess = M_1 + M_2, np.where(np.abs(M_1) > np.abs(M_2), M_1, M_2)
    return np.vdot(M, total) / np.vdot(total, total), np.linalg.norm(M - guess) / np.linalg.norm(M)


# --- 6. What does interference do? ----------------------------------------------------------------


def attribution_graph(U, b, x):
    """The weights as one example x (n,) uses them: edges U_ij x_j into targets that fire, (n, n).

    Circuit Tracing (Ameisen et al. 2025), for a single layer.
    """
    U, b, x = checked(U, b, check_array("x", x, (None,))[None])
    fires = preactivations(U, b, x) > 0                                  # (1, n)
    return fires.T * U * x


def edge_effects(U, b, x, y):
    """What each edge of one example x (n,) does to its squared error, (n, n); > 0: it helps here.

    dL of a single example: (y_hat_i without U_ij x_j - y_i)^2 - (y_hat_i - y_i)^2.
    """
    U, b, x = checked(U, b, check_array("x", x, (None,))[None])
    y = check_array("y", y, b.shape, U.dtype)[:, None]                   # (n, 1)
    z = preactivations(U, b, x).T                                        # (n, 1)
    return (relu(z - U * x) - y)**2 - (relu(z) - y)**2


def graph_precision(U, b, is_real, x, y, threshold=0.01):
    """What makes one example's graph cleaner than the weights: attribution, or what it leaves out?

    Right edges are those of real weights into firing targets that help this very example:
    `edge_effects` > threshold. (That a weight keeps a gate shut is not counted.) Each design ranks
    what it keeps, and its precision is that among as many edges as are right:

        "all"          all weights, by U_ij             "active"   from active sources, by U_ij
        "firing"       into firing targets, by U_ij     "in play"  both, by U_ij
        "attribution"  both, by U_ij x_j                "chance"   both, at random

    Returns a dict of means over the examples x (B, n), y (B, n) with a right edge, and "none", the
    share of examples without. As threshold >= 0, a right edge is in play by definition.
    """
    U, b, x, y, _ = checked(U, b, x, y, None)
    is_real = check_booleans("is_real", is_real, U.shape)
    check_number("threshold", threshold, "[0, inf)")
    found = []
    for example, answer in zip(x, y):
        active = example != 0                                            # (n,)
        fires = preactivations(U, b, example)[:, None] > 0               # (n, 1)
        right = is_real & fires & (edge_effects(U, b, example, answer) > threshold)
        if k := right.sum():
            designs = {"all": (True, U), "active": (active, U), "firing": (fires, U),
                       "in play": (fires & active, U), "attribution": (fires & active, U * example)}
            best = {name: np.argpartition(np.where(kept, -score, np.inf), k - 1, axis=None)[:k]
                    for name, (kept, score) in designs.items()}
            found.append({name: right.flat[edges].mean() for name, edges in best.items()}
                         | {"chance": k / (fires & active).sum()})
    check(found, "x", "examples of which one has a right edge", f"{len(x)} without")
    means = {name: float(np.mean([shares[name] for shares in found])) for name in found[0]}
    return means | {"none": 1 - len(found) / len(x)}


def push_gain(U, b, x, directions, size=0.1):
    """Change of output i if x is pushed along row i of `directions`, per unit and over U_ii, (n,).

    Before the relu a push of length `size` along the unit vector d moves z_i by size U_i . d, U_i
    being row i of U. That is largest for d = U_i / |U_i|: the worst case, an adversarial example.
    In a tied model U_ij = W_i . W_j, so |U_i|^2 = sum_j (W_i . W_j)^2 = |W_i|^4 / D_i with D_i the
    `feature_dimensionality`; and U_ii = |W_i|^2, so that

        worst-case gain = |U_i| / U_ii = 1 / sqrt(D_i)

    the root of the number of features that share a dimension: exactly, as this push raises z_i,
    so that an open gate stays open. Random directions, before the relu: of either sign and root
    mean square |U_i| / (sqrt(n) U_ii).

    Means over the examples x (B, n) in which target i fires, nan where it never does or U_ii is
    not positive. Toy Models of Superposition (2022), section on adversarial examples.
    """
    U, b, x = checked(U, b, x)
    directions = check_array("directions", directions, U.shape, U.dtype)
    lengths = np.linalg.norm(directions, axis=1)                         # (n,)
    check(lengths.all(), "directions", "rows that are not 0", "a row of zeros")
    size = check_number("size", size, "(0, inf)")
    z = preactivations(U, b, x)                                          # (B, n)
    push = size * np.sum(U * directions, axis=1) / lengths               # (n,), of z_i
    gain = np.full(len(U), np.nan)
    for i in np.flatnonzero((z > 0).any(axis=0) & (U.diagonal() > 0)):
        fires = z[z[:, i] > 0, i]                                        # z_i where target i fires
        gain[i] = np.mean(relu(fires + push[i]) - fires) / (size * U[i, i])
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

    h moves along the `steering_vector` of feature j, scaled so that its own z_j moves by 1. If
    features are independent the vector is a multiple of W_j, plus noise; along W_j / |W_j|^2 the
    others move by W_k . W_j / |W_j|^2, so that their squared side effects add up, by the definition
    of the dimensionality D_j, to

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
    check(change[j] > 0, "feature", "one whose target fires", j)
    return float(np.sum(push**2) - 1), float(change.sum() / change[j] - 1)


def checked(U, b, x, *answers):
    """U (n, n), b (n,), x (B, n) and, if given, y (B, n), all in U's dtype; importance (n,)."""
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

    Three samples, none seen in training, so that none knows the noise of another: `labelled`, also
    x and y, for dL, is_real (both (n, n)), live targets (n,) and the loss; `other` for scores;
    `fresh` for what comes of them. All targets count alike, whatever their importance was. Models
    are shared, so every array is read-only: copy what you want to change.
    """

    def __init__(self, task, model, seed, examples=16384):
        self.task, self.model, self.seed, self.examples = task, model, seed, examples
        for array in (task.A, task.v, *model.parameters.values()):
            frozen(array)
        self.U, self.b = frozen(model.virtual_weights()), model.b

    def sampled(self, stream):
        """x, y (examples, n), read-only, from a stream of random numbers of its own."""
        x, y = self.task.batch(generator((self.seed, 1000 + stream)), self.examples)
        return frozen(x), frozen(y)

    labelled = cached_property(lambda self: self.sampled(1))
    other = cached_property(lambda self: self.sampled(2))
    fresh = cached_property(lambda self: self.sampled(3))
    x = property(lambda self: self.labelled[0])
    y = property(lambda self: self.labelled[1])

    dL = cached_property(lambda self: frozen(ablation_effects(self.U, self.b, *self.labelled)))
    is_real = cached_property(lambda self: frozen(self.dL > THRESHOLD))
    live = cached_property(lambda self: frozen(~silent_targets(self.U, self.b, self.x)))
    loss = cached_property(lambda self: self.loss_with(self.U, self.b))

    @property
    def over_constant(self):
        """The loss over that of the best constant answer, the variances of y added up."""
        return self.loss / self.y.var(axis=0).sum()

    @cached_property
    def scores(self):
        """`all_scores` on the other sample, "size" |U|, and "ceiling", that sample's exact dL."""
        scores = all_scores(self.U, self.b, *self.other)
        scores["size"] = np.abs(self.U)
        scores["ceiling"] = ablation_effects(self.U, self.b, *self.other)
        return {name: frozen(score) for name, score in scores.items()}

    def loss_with(self, U, b):
        """The loss on x, y with other weights and another bias."""
        return LiftedModel(U, b).loss(self.x, self.y)

    def kept_loss(self, score, refit_bias=False, count=None):
        """True loss over the whole model's if only the `count` best weights by a score are kept.

        By default as many as are real. On part of the fresh sample, to which the bias is refitted,
        if it is; the whole model always has its own.
        """
        score = self.scores[score] if isinstance(score, str) else score
        count = self.is_real.sum() if count is None else count
        x, y = (part[:4096] for part in self.fresh)
        kept, = pruned_loss(self.U, self.b, x, y, score, [count], refit_bias)
        return kept / LiftedModel(self.U, self.b).loss(x, y)

    def kept_losses(self):
        """A dict of `kept_loss` for six ways to choose, with both biases, and for two controls."""
        names = "weight", "live_geometry", "second_order", "size"
        ways = {name: self.scores[name] for name in names}
        ways["smallest"] = -ways["size"]
        ways["random"] = generator((self.seed, 7)).random(self.U.shape)
        losses = {f"{name}, {bias}": self.kept_loss(score, bias == "refitted")
                  for name, score in ways.items() for bias in ("trained", "refitted")}
        return losses | {"all positive": self.kept_loss(self.U, count=np.sum(self.U > 0)),
                         "whole, refitted": self.kept_loss(self.U, True, self.U.size)}

    def average_precision(self, score, targets=slice(None)):
        """How well a score, or the one of that name, finds the real weights into some targets."""
        score = self.scores[score] if isinstance(score, str) else score
        return average_precision(*precision_recall(score[targets], self.is_real[targets]))


def frozen(array):
    """The same array, from now on read-only."""
    array.flags.writeable = False
    return array


def counter(done, steps):
    """A live count of training steps, on a terminal only."""
    if sys.stderr and sys.stderr.isatty() and (done % 100 == 0 or done == steps):
        print(f"  training: step {done} of {steps}\x1b[K", end="\r", file=sys.stderr, flush=True)


@lru_cache(maxsize=None)
def pentagon_models(seed, density, decay, starts=4):
    """5 features in 2 dimensions, importance decay^i, from a few starts: (loss, Trained) of each.

    The best comes first. A start can end in a worse arrangement, so always try several.
    """
    task = identity_task(5, density, importance=decay ** np.arange(5))
    x, y = task.batch(generator((seed, 1000)), 32768)
    trained = []
    for start in range(starts):
        model = TiedModel.initialise(np.random.default_rng((seed, start)), 5, 2)
        train(model, task, 1500, 1024, 1e-2, seed, "cosine", progress=counter)
        trained.append((model.loss(x, y, task.importance), Trained(task, model, seed)))
    return tuple(sorted(trained, key=lambda pair: pair[0]))


def failed_starts(models):
    """How many of `pentagon_models` ended more than 10 % above the best loss. (Less is noise.)"""
    return sum(loss > 1.1 * models[0][0] for loss, _ in models)


@lru_cache(maxsize=None)
def film(seed, steps):
    """A pentagon and a simple model after some steps (a tuple): two dicts, step -> parameters."""
    small = TiedModel.initialise(np.random.default_rng(seed), 5, 2, scale=0.3)
    large = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    options = {"steps": max(steps), "seed": seed, "snapshots": steps, "progress": counter}
    return (train(small, identity_task(5, 0.05), learning_rate=1e-2, **options).snapshots,
            train(large, identity_task(100, 0.02), **options).snapshots)


@lru_cache(maxsize=None)
def simple_model(seed, steps=300, density=0.02, batch_size=1024, learning_rate=1e-3,
                 schedule="constant", start=None, decay=1.0):
    """The simple configuration: a tied model gives back 100 features through 20 dimensions.

    300 steps leave it undertrained, as the note does on purpose. `seed` fixes the data, `start` the
    initial weights (default: the seed too); feature i has importance decay^i.
    """
    task = identity_task(100, density, None if decay == 1 else decay ** np.arange(100))
    model = TiedModel.initialise(generator(seed if start is None else start), 100, 20)
    train(model, task, steps, batch_size, learning_rate, seed, schedule, progress=counter)
    return Trained(task, model, seed)


def converged_model(seed, density, batch_size=1024, start=None, decay=1.0):
    """The simple configuration after 3000 steps at three times the learning rate, on a cosine."""
    return simple_model(seed, 3000, density, batch_size, 3e-3, "cosine", start, decay)


@lru_cache(maxsize=None)
def block_model(seed, run=0, start=0.05, steps=1000, examples=16384):
    """The learned model: the note's block circuit, 128 features through 16 dimensions, untied.

    W_up starts at `start` times the default scale: small, so that little of the start remains.
    `seed` fixes the circuit; each run trains on it independently.
    """
    task, rng = block_task(seed=seed), generator((seed, run, 1))
    model = UntiedModel.initialise(rng, 128, 16, scale=(16**-0.5, start * 16**-0.5))
    train(model, task, steps, 256, 1e-3, (seed, run), progress=counter)
    return Trained(task, model, seed, examples)


def silent_model(seed, run=0):
    """The silent model: the same circuit, 2000 steps from an ordinary start. It hardly learns.

    (Its effects are small: to label them takes more examples.)
    """
    return block_model(seed, run, 1.0, 2000, 32768)


@lru_cache(maxsize=None)
def sources_model(seed, run=0, n_sources=4, density=0.1, n_residual=16):
    """The third model: the same number of sources for every target, no bias, an ordinary start."""
    task = block_task(density=density, bias=0.0, seed=seed, n_sources=n_sources)
    model = UntiedModel.initialise(generator((seed, run, 1)), 128, n_residual)
    train(model, task, 2000, 512, 3e-3, (seed, run), "cosine", progress=counter)
    return Trained(task, model, seed)


def three_models(seed):
    """The models on which a sentence is tried before it is called a law, by name."""
    return {"learned": block_model(seed), "third": sources_model(seed),
            "silent": silent_model(seed)}


def memory_of_start(seed, start):
    """How much of its start a block model still is after 2000 steps, in four numbers.

    Silent targets, and those among them that are silent in the task; mean cosine of a row of W_up
    with what it started as, over silent and over live targets.
    """
    trained = block_model(seed, 0, start, 2000, 32768)
    first = UntiedModel.initialise(generator((seed, 0, 1)), 128, 16).W_up        # but for its scale
    W_up, live = trained.model.W_up, trained.live
    lengths = np.linalg.norm(W_up, axis=1) * np.linalg.norm(first, axis=1)
    cosine = np.sum(W_up * first, axis=1) / lengths
    wanted = trained.y.mean(axis=0)
    by_task = wanted <= 0.01 * wanted.max()
    return np.sum(~live), np.sum(~live & by_task), cosine[~live].mean(), cosine[live].mean()


@lru_cache(maxsize=None)
def block_mask(seed):
    """Where the learned mask of the learned model is above 1/2, (n, n), and its bias (n,)."""
    model = block_model(seed)
    mask, b = learned_mask(model.U, model.b, model.task, seed=(seed, 9), progress=counter)
    return frozen(mask > 0.5), frozen(b)


@lru_cache(maxsize=None)
def correlated_model(seed):
    """Two sets of 100 features that are never active together, through 20 dimensions."""
    task = correlated_task()
    model = TiedModel.initialise(np.random.default_rng(seed), task.n_features, 20)
    train(model, task, 2000, 512, 2e-3, seed, progress=counter)
    return Trained(task, model, seed)


def sharing_costs(trained, features):
    """What sharing costs each of some features of a tied model, by the laws and as measured.

    Returns a dict of arrays (k,): "shared" = 1 / D, "gain" = worst `push_gain` squared, "random" =
    that in a random direction, and 1 + `steering_side_effects`, "before" and "after" the relu.
    """
    U, b, x = trained.U, trained.b, trained.x
    directions = generator((trained.seed, 4)).normal(size=U.shape)
    effects = [steering_side_effects(trained.model, x, j) for j in features]
    before, after = 1 + np.transpose(effects)
    return {"shared": 1 / feature_dimensionality(trained.model.W)[features],
            "gain": push_gain(U, b, x, U)[features]**2,
            "random": push_gain(U, b, x, directions)[features]**2,
            "before": before, "after": after}
