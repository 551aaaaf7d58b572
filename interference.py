"""What does each virtual weight do, does it help, and which weights are real?

Multiply the matrices of a trained toy model, and it becomes one matrix U (n, n) with a bias b (n,):
y_hat = relu(U x + b). This is called lifting the model, and the entries of U are its virtual
weights. A few of them are the circuit that the task asks for. Most are there only because features
share dimensions: they are interference. This file asks, in this order:

    1  What does a weight do, and does it help?     effectiveness, helpfulness
    2  What does interference do?                   the law: squared mean minus variance
    3  Which weights are real?                      Definition 1 (ideal weights), a learned mask
    4  What finds them cheaply?                     scores
    5  How good is a ranking?                       precision, recall, the loss of a pruned model
    6  Who could use interference?                  an adversary
    7  What do weights of letters do?               effectiveness and helpfulness, in closed form
    8  Why is there interference at all?            the price of a share, and what pulls at an arrow
    9  Further questions of the note                compressed sensing, sets, shared weights

Notation and the note: see `toymodel.py`. "The sequel" is Characterizing interference weights in a
tiny language model (Turner, Wu, Batson 2026), which named effectiveness and helpfulness. All
targets count alike. Public functions check the arrays they are given by `real_array`, which says
what it raises.
"""
# toymodel before NumPy, as it sets the number of BLAS threads
from toymodel import (LiftedModel, MaskedModel, check_pairs, generator, positive_number, real_array,
                      relu, require, squared_error, train, true_or_false, whole_number)

import numpy as np

THRESHOLD = 1e-4    # Definition 2: a weight is real if removing it raises the loss by more


# --- 1. What does a weight do, and does it help? --------------------------------------------------

def ablations(U, b, x, replacement=None):
    """Ablate every weight, for one source after the other: what happens to the outputs?

    To ablate U_ij is to set it to 0. Then z_i moves by -U_ij x_j, and nothing else changes; where
    x_j = 0, not even z_i does. So for each source take only the examples in which it is active:
    that is n additions for each active feature, not n^2 for each example.

    Yields j; the rows (R,) of x in which anything can change; and D (R, n), in whose column i is
    the change of output i if U_ij is ablated. Examples are taken in chunks, and each j comes once
    for each chunk: add up what is yielded. replacement (n,): an ablated weight sends
    U_ij replacement_j instead of U_ij x_j; by default 0.
    """
    if replacement is None:
        replacement = np.zeros(len(U), U.dtype)
    weights_of = np.ascontiguousarray(U.T)                      # row j: the weights of source j
    active = max(1, np.count_nonzero(x - replacement))
    chunk = 1 + 2**16 * len(x) // active        # so that R n is about 2^16 numbers: in the cache
    for start in range(0, len(x), chunk):
        x_chunk = x[start:start + chunk]
        z = x_chunk @ U.T + b                                   # (chunk, n)
        y_hat = relu(z)
        moved = replacement - x_chunk                           # (chunk, n), what x_j changes by
        for j in range(len(U)):
            rows = np.flatnonzero(moved[:, j])                  # (R,)
            after = z.take(rows, axis=0)                        # (R, n), z; column i without U_ij
            after += np.outer(moved[rows, j], weights_of[j])
            yield j, start + rows, relu(after) - y_hat.take(rows, axis=0)


def effectiveness(U, b, x, mean=False):
    """How much does each weight do? F (n, n) >= 0, the mean square of what ablating it changes.

        F_ij = E[D^2],     D = (y_hat_i without U_ij) - y_hat_i

    mean: if True, the weight is left with the mean of its source, instead of with nothing. The
    sequel, which named effectiveness, measures the KL divergence of output distributions; for a
    squared error this mean square takes its place.
    """
    U, b, x = checked_weights(U, b, x)
    true_or_false("mean", mean)
    F = np.zeros(U.shape)
    for j, rows, D in ablations(U, b, x, x.mean(axis=0) if mean else None):
        F[:, j] += np.einsum("ri,ri->i", D, D)                  # the sum over r of D_ri^2
    return F / len(x)


def helpfulness(U, b, x, y, mean=False):
    """Does each weight help? dL (n, n): the loss without the weight minus the loss with it.

    Positive: the weight helps. Negative: it does harm. Above THRESHOLD it is called real (the
    note's Definition 2). With e = y_hat_i - y_i the error before and D as in `effectiveness`,

        dL_ij = E[(e + D)^2 - e^2] = E[D (D + 2 e)]

    and the last form loses no digits where errors are large and changes small. mean: as in
    `effectiveness`.
    """
    U, b, x = checked_weights(U, b, x)
    y = real_array("y", y, x.shape, U.dtype)
    true_or_false("mean", mean)
    twice_e = 2 * (relu(x @ U.T + b) - y)                       # (B, n)
    dL = np.zeros(U.shape)
    for j, rows, D in ablations(U, b, x, x.mean(axis=0) if mean else None):
        dL[:, j] += np.einsum("ri,ri->i", D, D + twice_e.take(rows, axis=0))
    return dL / len(x)


def helpfulness_standard_errors(U, b, x, y):
    """The standard error (n, n) of each `helpfulness`, which is a mean over B >= 2 examples.

    It is the sample standard deviation of what is averaged, divided by sqrt(B).
    """
    U, b, x = checked_weights(U, b, x)
    y = real_array("y", y, x.shape, U.dtype)
    B = len(x)
    require(B >= 2, "x must have at least 2 examples")
    twice_e = 2 * (relu(x @ U.T + b) - y)                       # (B, n)
    mean = np.zeros(U.shape)
    mean_square = np.zeros(U.shape)
    for j, rows, D in ablations(U, b, x):
        change = D * (D + twice_e.take(rows, axis=0))           # (R, n); 0 in other examples
        mean[:, j] += change.sum(axis=0) / B
        mean_square[:, j] += np.einsum("ri,ri->i", change, change) / B
    variance = np.maximum(mean_square - mean**2, 0) * B / (B - 1)
    return np.sqrt(variance / B)


def second_order(U, b, x, y):
    """`helpfulness` as if no gate changed: from slope and curvature, without any ablation.

    While the gates stay as they are, the loss is a parabola in U_ij. At U_ij = 0 it has risen by

        dL_ij ~ -2 U_ij E[gate_i e_i x_j] + U_ij^2 E[gate_i x_j^2]

    which is minus the gradient times the weight, plus half the second derivative times its square.
    Optimal Brain Damage (LeCun, Denker, Solla 1989) keeps only the second part, since the first is
    0 where every weight has been trained on its own. Here none can be, and the first part is what
    makes this score good. Returns (n, n).
    """
    U, b, x = checked_weights(U, b, x)
    y = real_array("y", y, x.shape, U.dtype)
    z = x @ U.T + b                                             # (B, n)
    gate = (z > 0).astype(U.dtype)                              # (B, n)
    e = gate * (z - y)                                          # (B, n), the error where it is open
    ex = e.T @ x / len(x)                                       # (n, n), E[gate_i e_i x_j]
    xx = gate.T @ x**2 / len(x)                                 # (n, n), E[gate_i x_j^2]
    return -2 * U * ex + U**2 * xx


# --- 2. What does interference do? ----------------------------------------------------------------
#
# The law is derived in chapter 3 of README.md. Take a weight of target i, or a set of weights, and
# remove it. It is *acting* in the examples in which the gate is open, with it or without it. Over
# these examples, whose share is p, write D for the change of the output, M for its mean, V for its
# variance, and e' = e + D for the error after the removal. Then, exactly and for any weights,
#
#     dL = p (M^2 - V)  +  2 p Cov(e', D)  +  2 p M E[e]
#
# The law is the first term: squared mean minus variance. Its first assumption is that the second
# term is 0, because nobody asked for the weight. Its second assumption is that the third term is 0,
# because the bias was trained with the weight in place. (Training knows only of gates that were
# open then, and not of those that the removal opens.)

def predicted_helpfulness(U, b, x):
    """What the law says of each weight on its own: p (M^2 - V), (n, n). It needs no answers y.

    With averages over all examples, E[D] = p M and F = E[D^2] = p (M^2 + V). So

        p (M^2 - V) = 2 E[D]^2 / p - F,     and 0 where the weight never acts

    p = P(gate i open) + P(gate i shut, and opened by the ablation). An example in which the source
    is silent counts in p if the gate is open: nothing moves there, but the bias is there.
    """
    p, mean, F = acting_moments(*checked_weights(U, b, x))
    return 2 * mean**2 / np.where(p > 0, p, 1) - F              # mean and F are 0 where p is


def acting_moments(U, b, x):
    """p, E[D] and E[D^2], (n, n) each: how often a weight acts, and what it changes, over all x."""
    z = x @ U.T + b                                             # (B, n)
    opened = np.zeros(U.shape)
    mean = np.zeros(U.shape)
    F = np.zeros(U.shape)
    for j, rows, D in ablations(U, b, x):
        opened[:, j] += np.count_nonzero((z.take(rows, axis=0) <= 0) & (D > 0), axis=0)
        mean[:, j] += D.sum(axis=0)
        F[:, j] += np.einsum("ri,ri->i", D, D)
    gate_open = np.count_nonzero(z > 0, axis=0)[:, None]        # (n, 1)
    return (gate_open + opened) / len(x), mean / len(x), F / len(x)


def law_remainders(U, b, x, y):
    """What the two assumptions of the law leave out, in their order: two arrays (n, n).

        covariance = 2 p Cov(e', D)         bias = 2 p M E[e]         over the acting examples

    `predicted_helpfulness` plus both is `helpfulness`, exactly, for any weights.
    """
    U, b, x = checked_weights(U, b, x)
    y = real_array("y", y, x.shape, U.dtype)
    p, mean, F = acting_moments(U, b, x)
    z = x @ U.T + b                                             # (B, n)
    e = relu(z) - y                                             # (B, n)
    acting_e = np.sum(e * (z > 0), axis=0, dtype=np.float64)    # (n,), where the gate is open
    acting_e = np.repeat(acting_e[:, None], len(U), axis=1)     # (n, n), the same for each source
    eD = np.zeros(U.shape)
    for j, rows, D in ablations(U, b, x):
        e_rows = e.take(rows, axis=0)                           # (R, n)
        opened = (z.take(rows, axis=0) <= 0) & (D > 0)          # (R, n), by the ablation
        acting_e[:, j] += np.einsum("ri,ri->i", e_rows, opened)
        eD[:, j] += np.einsum("ri,ri->i", e_rows, D)
    p = np.where(p > 0, p, 1)
    M = mean / p
    mean_e = acting_e / len(x) / p                              # E[e] where the weight acts
    mean_e_after = mean_e + M                                   # E[e'] there
    covariance = 2 * (eD / len(x) + F) - 2 * p * mean_e_after * M       # E[e' D] = E[e D] + E[D^2]
    return covariance, 2 * p * M * mean_e


def predicted_removal(U, b, x, removed):
    """What the law says of many weights at once: p M^2 and p V of each target, (n,) each.

    D is now the change of target i if all weights with `removed` (n, n) true are set to 0. The law
    is the same: the loss changes by the sum over targets of p M^2 - p V. If the biases are refitted
    afterwards, they take M off the new errors, and only - p V is left (as long as the new bias
    changes no gate).
    """
    U, b, x = checked_weights(U, b, x)
    removed = booleans("removed", removed, U.shape)
    z = x @ U.T + b                                             # (B, n)
    z_without = x @ np.where(removed, 0, U).T + b               # (B, n)
    D = (relu(z_without) - relu(z)).astype(np.float64)          # (B, n)
    p = np.mean((z > 0) | (z_without > 0), axis=0)              # (n,)
    p_M2 = np.mean(D, axis=0)**2 / np.where(p > 0, p, 1)        # D is 0 where p is
    p_V = np.mean(D**2, axis=0) - p_M2
    return p_M2, p_V


# --- 3. Which weights are real? -------------------------------------------------------------------

def ideal_weights(U, b, task, l1=1e-4, steps=3000, learning_rate=0.003, rng=0, fixed_bias=False):
    """Definition 1: what the weights become once every one of them is free. (The note.)

    Trains an n x n matrix and a bias, starting from the model's, with no bottleneck. The small
    penalty l1 * sum|U| decides about weights that the data leave free. A gate that is shut in every
    example would never open. So every bias is raised at first, until the mean of z is 0 or more.
    fixed_bias: keep b as it is; the weights have to make up for it.
    Returns (U_star (n, n), b_star (n,)), which belong together.
    """
    true_or_false("fixed_bias", fixed_bias)
    lifted = LiftedModel(U, b, l1)
    if not fixed_bias:
        x, _ = task.batch(generator(rng), 256)
        lifted.b = np.maximum(lifted.b, -(x @ lifted.U.T).mean(axis=0)).astype(lifted.U.dtype)
    train(lifted, task, steps, batch_size=256, learning_rate=learning_rate, rng=rng,
          schedule="cosine", only=("U",) if fixed_bias else None)
    return lifted.U, lifted.b


def learned_mask(U, b, task, penalty=1e-3, steps=2000, learning_rate=0.03, rng=0):
    """Learn which weights to keep, all of them at once, at a price for each.

    Trains the switches of a `MaskedModel` from 1/2 on. Returns (mask (n, n) in [0, 1], b (n,)).
    The note's footnote suggests it, after Drori (2025).
    """
    masked = MaskedModel(U, b, np.zeros(np.shape(U)), penalty)
    train(masked, task, steps, batch_size=256, learning_rate=learning_rate, rng=rng,
          schedule="cosine")
    return masked.mask(), masked.b


# --- 4. What finds them cheaply? ------------------------------------------------------------------

def row_space(U):
    """V (r, n): orthonormal rows that span the rows of U; r is the rank of U.

    V.T @ V projects on that space, which is all that the m shared dimensions can carry. A singular
    value counts if it exceeds n times the precision of float32, in which models are trained, times
    the largest one.
    """
    U = real_array("U", U, ("n", "n"))
    require(U.any(), "U must not be all zeros")
    tolerance = len(U) * np.finfo(np.float32).eps
    _, sizes, V = np.linalg.svd(U.astype(np.float64) / np.abs(U).max())
    return V[sizes > tolerance * sizes[0]]


def shares(U):
    """The share P_jj of a dimension that each source has, (n,) in [0, 1]; they add up to the rank.

    P is the projection on the rows of U. (In statistics: leverage scores.)
    """
    return np.sum(row_space(U)**2, axis=0)


def cosine_score(U):
    """The cosine between what target i reads and where source j is stored, (n, n) in [-1, 1].

    Target i reads along row U_i. With P = V.T @ V the projection on the rows of U (`row_space`),
    column P_j is what is left of source j in the shared dimensions. As U P = U, the weight U_ij is
    the inner product of the two, and this score is the weight divided by both lengths. It is 0
    where a length is 0. Needs no example.
    """
    U = real_array("U", U, ("n", "n"))
    stored = np.sqrt(shares(U))                                 # (n,), |P_j|, as |P_j|^2 = P_jj
    U = U.astype(np.float64) / np.abs(U).max()
    read = np.linalg.norm(U, axis=1)                            # (n,), |U_i|
    lengths = np.outer(read, stored)                            # (n, n)
    is_rounding = lengths <= len(U) * np.finfo(np.float64).eps * lengths.max()
    return np.divide(U, lengths, out=np.zeros(U.shape), where=~is_rounding)


def all_scores(U, b, x, y=None):
    """Every score by its name, (n, n) each: a high score is a guess that the weight is real.

    "era" and "twera" are expected residual attribution and its target-weighted form (Circuit
    Tracing, Ameisen et al. 2025, section "Global Weights"). "twera" is as published. It divides by
    the mean of the target, which is next to 0 for a target that hardly fires, and so ranks that
    target's weights first; "twera_floored" divides by at least 0.01. "frequency" is how often
    source and target are active together. "effectiveness" is the sequel's. "era_cosine" is ERA, how
    much a weight does, times the size of the cosine, whether its target reads where its source is
    stored: ours. None of these needs right answers. "second_order" does: it is there if y is given.
    """
    U, b, x = checked_weights(U, b, x)
    B = len(x)
    y_hat = relu(x @ U.T + b)                                   # (B, n)
    fires = (y_hat > 0).astype(U.dtype)                         # (B, n)
    active = (x != 0).astype(U.dtype)                           # (B, n)
    mean = y_hat.mean(axis=0, dtype=np.float64)[:, None]        # (n, 1), E[y_hat_i]
    together = y_hat.T @ x / B                                  # (n, n), E[y_hat_i x_j]
    era = fires.T @ x / B * U                                   # E[1(y_hat_i > 0) x_j] U_ij
    cosine = cosine_score(U)
    scores = {
        "weight": U.copy(),
        "era": era,
        "twera": together * U / np.where(mean > 0, mean, 1),    # E[y_hat_i x_j] / E[y_hat_i] U_ij
        "twera_floored": together * U / np.maximum(mean, 0.01),
        "frequency": fires.T @ active / B,                      # P(target i fires, source j active)
        "effectiveness": effectiveness(U, b, x),
        "cosine": cosine,
        "era_cosine": era * np.abs(cosine),
    }
    if y is not None:
        scores["second_order"] = second_order(U, b, x, y)
    return scores


# --- 5. How good is a ranking? --------------------------------------------------------------------

def ranking(scores):
    """Flat indices of `scores` from the largest to the smallest. Ties stay in reading order."""
    scores = real_array("scores", scores, dtype=np.float64)
    return np.argsort(-scores, axis=None, kind="stable")


def running_sums(scores, values):
    """Sum `values` from the best score down: (sums, counts), one entry for each different score.

    Weights of the same score cannot be told apart, so a group of ties counts at once. counts: how
    many weights are in the sum.
    """
    scores = real_array("scores", scores, dtype=np.float64)
    values = real_array("values", values, dtype=np.float64)
    require(scores.shape == values.shape, "scores and what they rank must have the same shape")
    order = ranking(scores)
    falling = scores.flat[order]
    next_is_lower = np.append(falling[1:] < falling[:-1], True)         # the last of each group
    counts = np.flatnonzero(next_is_lower) + 1
    sums = np.cumsum(values.flat[order])[counts - 1]
    return sums, counts


def precision_recall(scores, is_real):
    """(precision, recall) of what is kept, from the best score down: a point for each new score.

    scores: of any shape. is_real: booleans of the same shape. Raises ValueError if nothing is real.

    precision: which share of the kept weights is real. recall: which share of the real weights is
    kept. Example: scores [3, 1, 2, 1], of which the first two are real. Keep the 3; then also the
    2; then all four, as the two 1 are a tie. Precision is [1, 1/2, 1/2], and recall [1/2, 1/2, 1].
    """
    scores = real_array("scores", scores, dtype=np.float64)
    is_real = booleans("is_real", is_real, scores.shape)
    found, counts = running_sums(scores, is_real)
    require(found[-1] > 0, "is_real must be true somewhere: no weight is real")
    return found / counts, found / found[-1]


def average_precision(precision, recall):
    """The area under a precision-recall curve, in [0, 1].

        sum_k precision_k (recall_k - recall_{k-1})

    The curve is as from `precision_recall`: recall rises to 1, and the recall before the first
    point is 0. In the example there the area is 1 * 1/2 + 1/2 * 0 + 1/2 * 1/2 = 3/4. A perfect
    ranking has 1; a constant score has the share of weights that are real, and a random one about
    that.
    """
    precision = real_array("precision", precision, ("k",))
    recall = real_array("recall", recall, precision.shape)
    require(precision.min() >= 0 and precision.max() <= 1, "precision must be in [0, 1]")
    steps = np.diff(recall, prepend=0)
    require(steps.min() >= 0 and np.isclose(recall[-1], 1),
            "recall must never fall and must end at 1: one point for each score, the best first")
    return float(np.sum(precision * steps))


def loss_gain(scores, dL):
    """The sum of `helpfulness` over what is kept, one point for each score, as `precision_recall`.

    The horizontal axis of the note's figure 17. Single effects do not add up to the effect of all;
    the loss itself is `lifted_loss` of `keep`.
    """
    return running_sums(scores, dL)[0]


def keep(U, scores, count):
    """U (n, n) with only its `count` best-scored entries, all others 0. Ties in reading order."""
    U = real_array("U", U, ("n", "n"))
    scores = real_array("scores", scores, U.shape, np.float64)
    count = whole_number("count", count, least=0)
    require(count <= U.size, f"count must be in 0..{U.size}, got {count}")
    pruned = U.copy()
    pruned.flat[ranking(scores)[count:]] = 0
    return pruned


def lifted_loss(U, b, x, y, *, refit_bias=False):
    """The loss of relu(U x + b) on these examples, a float.

    refit_bias: take the `best_bias` for these examples instead of b.
    """
    U, b, x = checked_weights(U, b, x)
    y = real_array("y", y, x.shape, U.dtype)
    true_or_false("refit_bias", refit_bias)
    drive = x @ U.T                                             # (B, n)
    bias = best_bias(drive, y).astype(U.dtype) if refit_bias else b
    loss, _ = squared_error(drive + bias, y, np.ones(len(U), U.dtype))
    return loss


def best_bias(drive, y):
    """For each target the bias b with the smallest E[(relu(drive + b) - y)^2], exactly: (n,).

    drive (B, n) is z without its bias. Take one target, and lower b from infinity: gates shut one
    by one, that of the smallest drive first. While the k largest are open, the loss is a parabola
    in b. Its lowest point is the mean of y - drive over these k examples, and it is valid for
    -drive_k <= b <= -drive_{k+1}. So sort the examples by drive, take for each k the lowest point
    of the parabola inside its interval, and keep the best of these B candidates. (All gates shut is
    the end of the interval of k = 1.) Gradient steps could not reopen a target that is shut.
    """
    drive = real_array("drive", drive, ("B", "n"), np.float64)
    y = real_array("y", y, drive.shape, np.float64)
    return np.array([best_bias_of_one(drive[:, i], y[:, i]) for i in range(drive.shape[1])])


def best_bias_of_one(drive, y):
    """The best bias for one target: drive (B,), y (B,) -> a float."""
    largest = drive.max()
    drive = drive - largest                         # a common offset would only cost digits
    order = np.argsort(-drive)
    drive = drive[order]
    y = y[order]
    k = np.arange(1, len(drive) + 1)                # gates open
    gap = np.cumsum(y - drive)                      # (B,), sum of y - drive over the k open ones
    opens_next = np.append(-drive[1:], np.inf)      # (B,), where gate k + 1 opens if b rises
    b = np.clip(gap / k, -drive, opens_next)        # (B,), the best b with k gates open
    # The sum over the k open of (drive - y + b)^2 - y^2; the sum of all y^2 is the same for each b.
    loss = np.cumsum(drive**2 - 2 * drive * y) - 2 * b * gap + k * b**2
    return b[np.argmin(loss)] - largest


# --- 6. Who could use interference? ---------------------------------------------------------------

def adversary(U, b, allowed, k):
    """How large can each target's answer get, if k features may be on? (n,), exactly.

    Every feature lies between 0 and 1, and for target i only the sources with `allowed` (n, n) true
    in row i may be used. The worst case turns on the k sources with the largest weights, and those
    that push down stay off:

        relu(sum of the k largest positive U_ij + b_i)

    With `allowed` outside the circuit, nobody asked target i for any of this.
    """
    U = real_array("U", U, ("n", "n"))
    b = real_array("b", b, (len(U),), U.dtype)
    allowed = booleans("allowed", allowed, U.shape)
    k = whole_number("k", k, least=1)
    usable = np.where(allowed & (U > 0), U, 0)
    largest = np.sort(usable, axis=1)[:, -k:]                   # (n, k)
    return relu(largest.sum(axis=1) + b)


# --- 7. What do weights of letters do? ------------------------------------------------------------

def centred(U, b, pairs):
    """The same letter model with other zeros, (U, b): no output changes, but ablation does.

    What a 0 in U (n, n) means is a convention, in two ways. Exactly one letter j is on, so adding a
    constant to row i of U is the same as adding it to b_i: take off the row's mean over letters as
    they come, and give it to b_i. To ablate a weight is then to put the mean in its place. And
    softmax ignores a constant in column j: take off the mean of each column. (Then both kinds of
    mean are 0.) pairs (n, n): as from `letter_pairs`.
    """
    pairs = real_array("pairs", pairs, ("n", "n"), np.float64)
    check_pairs(pairs)
    U = real_array("U", U, pairs.shape, np.float64)
    b = real_array("b", b, (len(U),), np.float64)
    row_means = U @ pairs.sum(axis=0)                           # (n, n) @ (n,) -> (n,)
    U = U - row_means[:, None]
    return U - U.mean(axis=0), b + row_means


def letter_effects(U, b, pairs):
    """(effectiveness, helpfulness) of every weight of a letter model, (n, n) each: no samples.

    The model is y_hat = softmax(U x + b) with x one-hot. pairs[i, j] is how often letter j is
    followed by letter i, all adding up to 1. Write c_j for how often j comes, y_ij for how often i
    follows it, and y_hat_ij for what the model says.

      1. After letter j, softmax divides exp(z_i) by the sum of all exponentials. Ablating U_ij
         lowers z_i by U_ij, and multiplies the sum by R_ij = 1 + y_hat_ij (exp(-U_ij) - 1).
      2. So log y_hat changes by -log R_ij for every letter, and for letter i by -U_ij besides.
      3. Average the fall of log y_hat over what really follows, and over what the model expects.
         The weight acts only after letter j, hence the c_j:

             helpfulness    c_j (y_ij U_ij + log R_ij)          the rise of the cross-entropy
             effectiveness  c_j (y_hat_ij U_ij + log R_ij)      the mean KL divergence

      4. So helpfulness = effectiveness + c_j U_ij (y_ij - y_hat_ij): what a weight does, plus its
         push towards what is right.

    The KL divergence of y_hat from what it is without the weight, sum y_hat (log y_hat -
    log y_hat'), is the usual measure of how far a distribution moves. What 0 means for a weight is
    a convention (`centred`). Step 3 for helpfulness is the sequel's; the sequel's effectiveness is
    a second-order estimate of this one.
    """
    pairs = real_array("pairs", pairs, ("n", "n"), np.float64)
    check_pairs(pairs)
    U = real_array("U", U, pairs.shape, np.float64)
    b = real_array("b", b, (len(U),), np.float64)
    c = pairs.sum(axis=0)                                       # (n,), how often each letter comes
    y = pairs / c                                               # (n, n), column j: what follows j
    z = U + b[:, None]                                          # (n, n), column j: logits after j
    log_sum = np.logaddexp.reduce(z, axis=0)                    # (n,), of all exponentials
    y_hat = np.exp(z - log_sum)                                 # (n, n)
    log_R = np.empty(z.shape)
    for i in range(len(U)):                                     # without U_ij, z_ij is b_i
        log_others = np.logaddexp.reduce(np.delete(z, i, axis=0), axis=0)       # (n,)
        log_R[i] = np.logaddexp(log_others, b[i]) - log_sum
    small = np.abs(U) < 1e-3                                    # here the difference loses digits
    log_R[small] = np.log1p(y_hat[small] * np.expm1(-U[small]))         # step 1 as it stands
    return c * np.maximum(y_hat * U + log_R, 0), c * (y * U + log_R)


# --- 8. Why is there interference at all? ---------------------------------------------------------

def price(U):
    """(|U_i| / U_ii)^2 for each target (n,): its own signal counts 1, and the rest is interference.

    As U_i = U_i P, the weight U_ii is the inner product of U_i and P_i. By Cauchy-Schwarz, and as
    |P_i|^2 = P_ii,

        U_ii^2 <= |U_i|^2 P_ii,     so     price_i >= 1 / share_i,

    whatever the read-out. Shares add up to m at most, and the mean of 1 / share is at least 1 over
    the mean share; so the mean price is n / m or more. (Known as the minimum-norm or Capon bound,
    and as the Welch bound.) Raises ValueError if some U_ii is 0.
    """
    U = real_array("U", U, ("n", "n"), np.float64)
    require(U.diagonal().all(), "every U_ii must differ from 0")
    return np.sum((U / U.diagonal()[:, None])**2, axis=1)


def pulls(W, dU, i):
    """What each virtual weight does to the length of arrow i of a tied model: (n,).

    W (m, n), and dU (n, n) the slopes of the loss along U = W.T @ W. Arrow i is column W_i, and it
    has a part in 2 n - 1 virtual weights: those of source i, and those of target i. By the product
    rule dW = W dU + W dU^T, the slope along its direction u = W_i / |W_i| is

        sum_j (W_j . u) (dU_ji + dU_ij)

    Entry j is minus the term of j, because training goes down the slope: it is positive if the
    weights between i and j would have the arrow longer. Where training stops, the pulls cancel.
    dU comes from a `LiftedModel` with the same U and b.
    """
    W = real_array("W", W, ("m", "n"), np.float64)
    n = W.shape[1]
    dU = real_array("dU", dU, (n, n), np.float64)
    require(whole_number("i", i, least=0) < n, f"i must be below {n}, got {i}")
    length = np.linalg.norm(W[:, i])
    require(length > 0, f"arrow {i} has no length, and so no direction")
    direction = W[:, i] / length                                # (m,)
    return -(direction @ W) * (dU[:, i] + dU[i])


# --- 9. Further questions of the note -------------------------------------------------------------

def sparse_code(atoms, rows, penalty):
    """Each row w of `rows` (k, m) as a sum of few atoms: codes (k, p) >= 0.

    The atoms are the columns of `atoms` (m, p), each taken at length 1.

    Compressed sensing as a non-negative lasso. With D the atoms, find the c >= 0 with the smallest

        1/2 |D c - w|^2 + penalty sum_a c_a,      penalty > 0

    Its slope along c_a is s_a = D_a . (D c - w) + penalty. At the minimum s_a = 0 for every atom in
    use, and s_a >= 0 for all others: no atom outside would lower the sum.
    """
    D = real_array("atoms", atoms, ("m", "p"), np.float64)
    rows = real_array("rows", rows, ("k", D.shape[0]), np.float64)
    positive_number("penalty", penalty)
    lengths = np.linalg.norm(D, axis=0)
    D = D / np.where(lengths > 0, lengths, 1)                   # an atom of length 0 is never used
    return np.array([code_of_one(D, w, penalty) for w in rows])


def code_of_one(D, w, penalty):
    """The code c (p,) of one row w (m,) in atoms D (m, p) of length 1.

    Active set (Lawson and Hanson 1974). Move c towards the best code with the atoms in use, where
    all their slopes are 0: a linear system. If a coefficient reaches 0 on the way, stop there and
    drop its atom. On arrival, take in the atom with the most negative slope, and end if there is
    none. Each arrival has a lower loss than the one before, so no set of atoms is arrived at twice.
    """
    c = np.zeros(D.shape[1])
    in_use = np.zeros(D.shape[1], bool)
    tolerance = 1e-9 * np.linalg.norm(w)
    for step in range(100 * D.shape[1]):
        used = D[:, in_use]                                     # (m, k), at first no column
        overlap = used.T @ used + 1e-12 * np.eye(used.shape[1])     # never quite singular
        goal = np.zeros_like(c)
        goal[in_use] = np.linalg.solve(overlap, used.T @ w - penalty)       # slope 0 for these
        leaving = in_use & (goal <= 0)
        if leaving.any():
            fraction = np.full(c.shape, np.inf)                 # of the way, at which c_a is 0
            fraction[leaving] = c[leaving] / (c[leaving] - goal[leaving])
            first = np.argmin(fraction)
            c += fraction[first] * (goal - c)
            c[first] = 0
            in_use[first] = False
        else:
            c = goal
            slope = D.T @ (D @ c - w) + penalty                 # (p,)
            slope[in_use] = 0
            if slope.min() >= -tolerance:
                return c
            in_use[np.argmin(slope)] = True
    raise FloatingPointError("the search for a sparse code does not end")


def code_score(U, penalty=0.01):
    """A sparse circuit that U could be the linear read-out of, (n, n) >= 0, from U alone.

    If W_up were the best linear read-out of A x, and features uncorrelated with equal variances, U
    would be A P: row U_i would be a sum of columns P_j with weights A_ij. So look for few columns
    P_j, each of length 1, that add up to row U_i. penalty: a share of the smallest penalty that
    leaves no code at all, in (0, 1).
    """
    positive_number("penalty", penalty)
    require(penalty < 1, f"penalty must be below 1, got {penalty}")
    U = real_array("U", U, ("n", "n"))
    V = row_space(U)
    rows = U.astype(np.float64) / np.abs(U).max() @ V.T         # (n, n) @ (n, r) -> (n, r)
    stored = np.linalg.norm(V, axis=0)
    none_left = (rows @ V / np.where(stored > 0, stored, 1)).max()
    require(none_left > 0, "no row of U points along a source: there is nothing to code")
    return sparse_code(V, rows, penalty * none_left)


def set_mean_component(U, set_size):
    """The part of U that only knows sets: each set_size x set_size block replaced by its mean.

    The means leave out the diagonal of U, where the real weights sit; the result has it filled in.
    Returns (n, n). The note, Appendix 3. Raises ValueError unless sets of 2 or more divide n.
    """
    U = real_array("U", U, ("n", "n"), np.float64)
    n = len(U)
    size = whole_number("set_size", set_size, least=2)
    require(n % size == 0, f"set_size must divide {n}, got {size}")
    sets = n // size
    off_diagonal = U * (1 - np.eye(n))
    totals = off_diagonal.reshape(sets, size, sets, size).sum(axis=(1, 3))      # (sets, sets)
    counts = size**2 - size * np.eye(sets)                                      # (sets, sets)
    return np.kron(totals / counts, np.ones((size, size)))


def shared_middle(directions, active):
    """M (m, m) of the model y_hat = relu(D M D.T x), trained to double the `active` features.

    Each example has one of them.

    D = `directions` (n, m), a unit row for each feature, stays fixed. So W_up = D, W_down = M D.T,
    and by the chain rule dM = D.T @ dU @ D. Plain gradient descent, 400 steps from 0.001 I, because
    at M = 0 every gate is shut. (Unlike Adam it never leaves the span of its gradients.)

    What do two circuits do to each other? Take unit directions d_1, d_2 at an angle t between 90
    and 180 degrees.

    1. Alone, descent arrives at M_i = 2 d_i d_i^T. Of all M with d_i^T M d_i = 2 this has the
       smallest sum of squares.
    2. Together, descent grows both, by symmetry in equal parts: M = c (d_1 d_1^T + d_2 d_2^T). The
       output of each feature for the other is 2 c cos t <= 0, which the relu hides.
    3. Descent stops when d_1^T M d_1 = c (1 + cos^2 t) = 2.
    4. So M = (M_1 + M_2) / (1 + cos^2 t): at 90 degrees weights add, at 180 they share one weight.

    This holds up to about 0.001, the size of the start. Below 90 degrees outputs for the other are
    positive and must be unlearned. The note, Appendix 1.
    """
    D = real_array("directions", directions, ("n", "m"), np.float64)
    n, m = D.shape
    require(np.allclose(np.linalg.norm(D, axis=1), 1), "each row of directions must have length 1")
    active = [whole_number("active", feature, least=0) for feature in active]
    require(active and max(active) < n, f"active must name features below {n}, got {active}")
    M = 0.001 * np.eye(m)
    x = np.eye(n)[active]                                       # (B, n), one feature an example
    for step in range(400):
        lifted = LiftedModel(D @ M @ D.T, np.zeros(n))
        _, gradients = lifted.loss_and_gradients(x, 2 * x)
        M -= 0.2 * D.T @ gradients["U"] @ D                     # (m, n) @ (n, n) @ (n, m)
    return M


# --- At the door ----------------------------------------------------------------------------------

def checked_weights(U, b, x):
    """U (n, n), b (n,) and x (B, n) as arrays that fit, in the dtype of U."""
    U = real_array("U", U, ("n", "n"))
    b = real_array("b", b, (len(U),), U.dtype)
    x = real_array("x", x, ("B", len(U)), U.dtype)
    return U, b, x


def booleans(name, value, shape):
    """`value` as an array of booleans of this shape. Raises ValueError if they are numbers."""
    array = np.asarray(value)
    require(array.dtype == bool and not isinstance(value, np.ma.MaskedArray),
            f"{name} must be booleans, got {type(value).__name__} of {array.dtype}")
    require(array.shape == shape, f"{name} must have shape {shape}, got {array.shape}")
    return array
