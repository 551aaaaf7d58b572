"""Which virtual weights are real? Definitions, exact measurements and cheap heuristics.

Lift a trained toy model back to feature space and it is one matrix U (n, n) with a bias b (n,):
y_hat = relu(x @ U.T + b). A few entries of U are the circuit that the task asks for (real weights);
most exist only because features share dimensions (interference weights). This file asks, in order:

    1  What does each weight do?          exact ablation, standard errors, second-order estimate
    2  Which weights are real?            Definition 1 (ideal), Definition 2 (loss), learned mask
    3  Can real ones be found cheaply?    weight, ERA, TWERA, frequency, second order
    4  How good is a ranking?             precision and recall, loss gain, loss of a pruned model
    5  What structure is in it?           set means, feature dimensionality, circulants
    6  What does interference do?         attribution graphs, steering, adversaries

Notation: the table at the top of `toymodel.py`. Products are taken in U's dtype, and sums of chunks
of examples kept in float64. Wrong shapes and entries that are not finite raise ValueError. "The
note" is A Toy Model of Interference Weights (Olah, Turner, Conerly 2025); definitions from
elsewhere name their source.
"""
import numpy as np

from toymodel import LiftedModel, MaskedModel, check, finite_array, relu, square_array, train


def circuit(U, b, x, y=None, importance=None):
    """All checked: U (n, n), b (n,), x (B, n), y (B, n) in U's dtype, and importance (n,)."""
    U = square_array("U", U)
    n, dtype = len(U), U.dtype
    b = finite_array("b", b, (n,), dtype)
    x = finite_array("x", x, (None, n), dtype)
    if y is not None:
        y = finite_array("y", y, (len(x), n), dtype)
    importance = np.ones(n) if importance is None else finite_array("importance", importance, (n,))
    return U, b, x, y, importance


# --- 1. What does each weight do? -----------------------------------------------------------------


def ablation_changes(U, b, x, part=None, chunk=2048):
    """Yield, for each chunk of examples and each target i, all that single ablations can do to it.

    Ablating U_ij moves z_i by -U_ij x_j and touches nothing else, so output i moves by

        change_bj = relu(z_i - U_ij x_j) - relu(z_i) = max(-U_ij x_j, -z_i) + min(z_i, 0)

    (the naive form first; the last takes fewer passes over memory). Two kinds of example need no
    work: those with x_j = 0, whose change is 0, and those where gate i is shut and a bound shows
    that no single ablation can open it. The latter are skipped. To take away only a part of each
    weight, give `part` (n, n): it replaces U_ij here, while z_i is still the whole model's.

    Yields i; rows (R,), the examples that are left; y_hat_i (R,); change (R, n).
    """
    part = U if part is None else part
    for start in range(0, len(x), chunk):
        x_chunk = x[start:start + chunk]
        z = x_chunk @ U.T + b                                                # (chunk, n)
        rise = np.maximum(np.outer(x_chunk.max(axis=1), -part.min(axis=1)),  # (chunk, n), bounds
                          np.outer(-x_chunk.min(axis=1), part.max(axis=1)))  # any -U_ij x_j > 0
        moves = (z > 0) | (z + rise > 0)                                     # (chunk, n)
        for i in range(len(U)):
            rows = np.flatnonzero(moves[:, i])
            z_i = z[rows, i, None]                                           # (R, 1)
            change = x_chunk[rows] * -part[i]                                # (R, n)
            np.maximum(change, -z_i, out=change)
            change += np.minimum(z_i, 0)
            yield i, start + rows, relu(z_i[:, 0]), change


def ablation_effects(U, b, x, y, importance=None, part=None):
    """Exact effect of each weight on the loss: dL_ij = L(U with U_ij = 0) - L(U).

    Positive: the weight helps. With e = y_hat_i - y_i, an output that moves by `change` adds
    (e + change)^2 - e^2 = change^2 + 2 e change to its example's squared error. Given `part`
    (n, n), only that much is taken away from each weight: L(U with U_ij - part_ij) - L(U).

    Returns dL (n, n). The note, section "Real weights".
    """
    U, b, x, y, importance = circuit(U, b, x, y, importance)
    part = U if part is None else finite_array("part", part, U.shape, U.dtype)
    dL = np.zeros(U.shape)
    for i, rows, y_hat_i, change in ablation_changes(U, b, x, part):
        e = y_hat_i - y[rows, i]                                             # (R,)
        dL[i] += np.einsum("bj,bj->j", change, change) + 2 * (e @ change)    # (n,)
    return importance[:, None] * dL / len(x)


def ablation_standard_errors(U, b, x, y, importance=None):
    """Standard error (n, n) of each `ablation_effects`, from the paired differences per example.

    dL_ij is a mean over examples of the differences d_b, so its standard error is their sample
    standard deviation over sqrt(B); dL_ij +- 1.96 of it is a 95 % interval for large B, one weight
    at a time. 0 says that ablation changed nothing on these examples. Needs at least two.
    """
    U, b, x, y, importance = circuit(U, b, x, y, importance)
    check(len(x) >= 2, "x", "at least 2 examples", len(x))
    mean, mean_square = np.zeros(U.shape), np.zeros(U.shape)
    for i, rows, y_hat_i, change in ablation_changes(U, b, x):
        e = (y_hat_i - y[rows, i])[:, None]                                  # (R, 1)
        d = change * (change + 2 * e)                                        # (R, n), elsewhere 0
        mean[i] += d.sum(axis=0) / len(x)
        mean_square[i] += np.einsum("bj,bj->j", d, d) / len(x)
    variance = np.maximum(mean_square - mean**2, 0)                          # rounding: no -1e-20
    return importance[:, None] * np.sqrt(variance / (len(x) - 1))


def second_order_effects(U, b, x, y, importance=None):
    """`ablation_effects` as if no gate flipped: two matrix products for all n^2 weights.

    With gates gate_i = 1[z_i > 0] held fixed the loss is a quadratic in U_ij, and setting it to 0
    changes it by

        dL_ij ~ -2 U_ij E[gate_i e_i x_j] + U_ij^2 E[gate_i x_j^2],    e = y_hat - y

    gradient times weight plus curvature: the saliency of Optimal Brain Damage (LeCun, Denker, Solla
    1990), here with the gradient that it drops at a minimum. Returns (n, n).
    """
    U, b, x, y, importance = circuit(U, b, x, y, importance)
    z = x @ U.T + b
    gate = (z > 0).astype(U.dtype)                           # (B, n)
    slope = (gate * (relu(z) - y)).T @ x / len(x)            # (n, B) @ (B, n) -> (n, n)
    curvature = gate.T @ x**2 / len(x)                       # (n, B) @ (B, n) -> (n, n)
    return importance[:, None] * (U**2 * curvature - 2 * U * slope).astype(np.float64)


def effectiveness(U, b, x):
    """How far each weight moves the output: E[(change of y_hat_i when U_ij is ablated)^2], exact.

    For squared error (Gaussian outputs of unit variance) the Fisher metric is the identity, so this
    is the effectiveness of Turner, Wu and Batson (2026), *Characterizing interference weights in a
    tiny language model*. Whether the movement helps is `ablation_effects`. Returns (n, n), >= 0.
    """
    U, b, x, _, _ = circuit(U, b, x)
    total = np.zeros(U.shape)
    for i, _, _, change in ablation_changes(U, b, x):
        total[i] += np.einsum("bj,bj->j", change, change)
    return total / len(x)


def gate_flip_rate(U, b, x):
    """P(ablating U_ij opens or shuts gate i), (n, n): where `second_order_effects` is not exact."""
    U, b, x, _, _ = circuit(U, b, x)
    flips = np.zeros(U.shape)
    for i, _, y_hat_i, change in ablation_changes(U, b, x):
        was_open = y_hat_i[:, None] > 0                                      # (R, 1)
        flips[i] += np.sum(was_open != (y_hat_i[:, None] + change > 0), axis=0)
    return flips / len(x)


# --- 2. Which weights are real? -------------------------------------------------------------------


def ideal_weights(U, b, task, l1=1e-4, steps=2000, batch_size=1024, learning_rate=3e-3, seed=0,
                  progress=None):
    """Definition 1: what the weights become once every one of them is free (n x n, no bottleneck).

    Trains U itself, starting from the model's, with the small penalty l1 * sum|U|, which decides
    about weights that the data leave free. A target whose gate is shut on every example would get
    no gradient, so biases start no lower than where the mean of z is 0.

    Returns (U_star (n, n), b_star (n,)), which belong together.
    """
    x, _ = task.batch(np.random.default_rng(seed), batch_size)
    U, b, x, _, _ = circuit(U, b, x)
    lifted = LiftedModel(U, np.maximum(b, -(x @ U.T).mean(axis=0)), l1)
    train(lifted, task, steps, batch_size, learning_rate, seed, schedule="cosine",
          progress=progress)
    return lifted.U, lifted.b


def decompose_by_ideal(U, U_star):
    """Definition 1: (real, interference) = (U_star, U - U_star), which sum to U."""
    U = finite_array("U", U, (None, None))
    U_star = finite_array("U_star", U_star, U.shape, U.dtype)
    return U_star, U - U_star


def decompose_by_loss(U, dL, threshold=1e-4):
    """Definition 2: a weight is real if ablating it alone raises the loss by more than `threshold`.

    The bias stays as it was trained, so a weight also counts for the mean that b has adapted to.
    Returns (real, interference), each entry of U being in exactly one of them.
    """
    U = finite_array("U", U, (None, None))
    is_real = finite_array("dL", dL, U.shape) > threshold
    return np.where(is_real, U, 0), np.where(is_real, 0, U)


def learned_mask(U, b, task, penalty, steps=2000, batch_size=1024, learning_rate=0.03, seed=0,
                 progress=None):
    """The mask alternative: learn which weights to keep, all at once, at a price for each.

    Minimises the loss of the model with weights U * mask plus penalty * sum(mask); U stays as it is
    and the bias is trained too, to make up for what the removed weights added on average. The mask
    starts at 1/2 everywhere. Returns (mask (n, n) in [0, 1], b (n,)).
    """
    masked = MaskedModel(U, b, np.zeros_like(U), penalty)
    train(masked, task, steps, batch_size, learning_rate, seed, schedule="cosine",
          progress=progress)
    return masked.mask(), masked.b


# --- 3. Can real weights be found cheaply? --------------------------------------------------------


def weight_score(U):
    """The weight itself (n, n): is large and positive real?"""
    return finite_array("U", U, (None, None)).copy()


def expected_attribution(U, b, x):
    """ERA, expected residual attribution: E[1(y_hat_i > 0) x_j] U_ij, (n, n).

    Circuit Tracing (Ameisen et al. 2025), section "Global Weights".
    """
    U, b, x, _, _ = circuit(U, b, x)
    fires = (x @ U.T + b > 0).astype(U.dtype)                # (B, n)
    return fires.T @ x / len(x) * U                          # (n, B) @ (B, n) -> (n, n)


def target_weighted_attribution(U, b, x, min_rate=0.0):
    """TWERA, target-weighted ERA: E[y_hat_i x_j] / E[y_hat_i] U_ij, (n, n).

    Circuit Tracing, section "Global Weights" (min_rate = 0: as published). The ratio is a mean of
    x_j, weighted by y_hat_i: for a target that almost never fires it rests on a few examples and is
    as large as for any other, so such rows fill the top of the ranking. The guard, ours, leaves no
    denominator below min_rate * max_i E[y_hat_i]. A target that never fires scores 0.
    """
    check(0 <= min_rate <= 1, "min_rate", "in [0, 1]", min_rate)
    U, b, x, _, _ = circuit(U, b, x)
    y_hat = relu(x @ U.T + b)                                # (B, n)
    mean = y_hat.mean(axis=0, dtype=np.float64)              # (n,)
    mean = np.maximum(mean, max(min_rate * mean.max(), np.finfo(np.float64).tiny))
    return (y_hat.T @ x / len(x)) / mean[:, None] * U        # (n, B) @ (B, n) -> (n, n)


def coactivation_frequency(U, b, x):
    """P(x_j > 0 and y_hat_i > 0), (n, n). No weight in it: what do activations alone tell?"""
    U, b, x, _, _ = circuit(U, b, x)
    fires = (x @ U.T + b > 0).astype(U.dtype)                # (B, n)
    return fires.T @ (x > 0).astype(U.dtype) / len(x)        # (n, B) @ (B, n) -> (n, n)


def all_scores(U, b, x, y):
    """Every score of this file by name, each (n, n); the weight most likely real scores highest.

    "guarded_twera" is TWERA with min_rate = 0.01.
    """
    return {
        "weight": weight_score(U),
        "era": expected_attribution(U, b, x),
        "twera": target_weighted_attribution(U, b, x),
        "guarded_twera": target_weighted_attribution(U, b, x, min_rate=0.01),
        "frequency": coactivation_frequency(U, b, x),
        "second_order": second_order_effects(U, b, x, y),
    }


# --- 4. How good is a ranking? --------------------------------------------------------------------


def ranking(scores):
    """Flat indices of `scores` from the largest to the smallest; ties stay in reading order.

    (Then a curve over ties depends on the order of features. Only frequencies tie noticeably.)
    """
    scores = finite_array("scores", scores, np.shape(scores))
    return np.argsort(-scores.ravel(), kind="stable")


def precision_recall(scores, is_real):
    """(precision, recall), each with one point per kept prefix of the ranking: k = 1 ... size.

    precision_k: share of the first k that is real. recall_k: share of the real ones found in them.
    Ties stay in reading order. Example: scores [3, 1, 2, 1], is_real [1, 1, 0, 0] rank as entries
    0, 2, 1, 3, so precision is [1, 1/2, 2/3, 1/2] and recall [1/2, 1/2, 1, 1].

    Raises ValueError if shapes differ or nothing is real.
    """
    check(np.shape(scores) == np.shape(is_real), "is_real", f"of shape {np.shape(scores)}",
          np.shape(is_real))
    found = np.cumsum(np.asarray(is_real, bool).ravel()[ranking(scores)])
    check(found[-1] > 0, "is_real", "true somewhere", "no real weight at all")
    return found / np.arange(1, len(found) + 1), found / found[-1]


def average_precision(precision, recall):
    """Area under a precision-recall curve: sum_k precision_k (recall_k - recall_{k-1}).

    In the example of `precision_recall`: 1 * 1/2 + 2/3 * 1/2 = 5/6. A perfect ranking scores 1, a
    random one about the share of real weights (the base rate).
    """
    recall = finite_array("recall", recall, (None,))
    precision = finite_array("precision", precision, recall.shape)
    return float(np.sum(precision * np.diff(recall, prepend=0)))


def loss_gain(scores, dL):
    """Cumulative sum of dL over each kept prefix of the ranking, one point per prefix.

    A proxy: it adds up effects measured one at a time. The loss itself is `pruned_loss`.
    """
    dL = finite_array("dL", dL, np.shape(scores))
    return np.cumsum(dL.ravel()[ranking(scores)])


def best_bias(s, y):
    """The bias of each target that makes E[(relu(s + b) - y)^2] smallest: exact, and global.

    s (B, n) is what reaches each target without a bias. Lower b from infinity and gates shut one
    by one, in the order of s. While the k largest are open the loss is a parabola in b, with its
    bottom at the mean of y - s over them, valid for -s_k <= b <= -s_{k+1}. So: sort, take the k
    bottoms from cumulative sums, clip each into its interval, keep the best. Gradient steps would
    stop at a local optimum, and cannot reopen a target whose gates are all shut; this can.

    Returns b (n,).
    """
    s = finite_array("s", s, (None, None))
    y = finite_array("y", y, s.shape)
    order = np.argsort(-s, axis=0)
    s, y = (np.take_along_axis(a, order, 0).astype(np.float64) for a in (s, y))
    k = np.arange(1, len(s) + 1)[:, None]                              # (B, 1): gates open
    gap = np.cumsum(y - s, axis=0)                                     # (B, n)
    shut = np.vstack([s[1:], np.full((1, s.shape[1]), -np.inf)])       # the largest s still shut
    b = np.clip(gap / k, -s, -shut)                                    # (B, n)
    square = np.cumsum(s * (s - 2 * y), axis=0)                        # of y - s, less that of y
    loss = square - 2 * b * gap + k * b**2                             # (B, n), one per number open
    return np.take_along_axis(b, np.argmin(loss, axis=0)[None], 0)[0]


def pruned_loss(U, b, x, y, scores, keep, refit_bias=False):
    """The true loss of the model that keeps only the `keep` best-scored weights, for each size.

    keep: sizes (whole numbers) in 0..n^2. With refit_bias, each pruned model gets the bias that is
    best on these examples (`best_bias`) instead of b. All targets count alike. Returns losses
    (len(keep),).
    """
    U, b, x, y, _ = circuit(U, b, x, y)
    order = ranking(finite_array("scores", scores, U.shape))
    losses = []
    for size in keep:
        check(0 <= size <= U.size, "keep", f"in 0..{U.size}", size)
        pruned = np.zeros_like(U)
        pruned.flat[order[:size]] = U.flat[order[:size]]
        s = x @ pruned.T                                               # (B, n)
        bias = best_bias(s, y) if refit_bias else b
        losses.append(np.mean(np.sum((relu(s + bias) - y)**2, axis=1)))
    return np.array(losses)


# --- 5. What structure is in interference? --------------------------------------------------------


def set_mean_component(U, set_size):
    """The part of U that only knows sets: each block of set_size x set_size replaced by its mean.

    Means leave the diagonal of U out, where the real weights sit; the result has it filled in, so
    that its rank is at most the number of sets. Returns (n, n). The note, Appendix 3. Raises
    ValueError unless sets divide features.
    """
    U = square_array("U", U)
    n, size = len(U), set_size
    check(size in range(2, n + 1) and n % size == 0, "set_size", f"a divisor of {n} above 1", size)
    sets = n // size
    totals = (U * (1 - np.eye(n, dtype=U.dtype))).reshape(sets, size, sets, size).sum(axis=(1, 3))
    counts = (size**2 - size * np.eye(sets)).astype(U.dtype)
    return np.kron(totals / counts, np.ones((size, size), U.dtype))    # (sets, sets) -> (n, n)


def feature_dimensionality(W):
    """The share of a dimension that each feature has: D_i = |W_i|^4 / sum_j (W_i . W_j)^2.

    W (m, n) holds one column W_i per feature. 1: a dimension of its own; 1/2: an antipodal pair;
    2/5: a pentagon; 0: not represented (W_i = 0). Returns (n,). Toy Models of Superposition
    (Elhage et al. 2022).
    """
    G = finite_array("W", W, (None, None)).astype(np.float64)
    G = G.T @ G                                                        # (n, n)
    square = np.diag(G)                                                # (n,), |W_i|^2
    return square**2 / np.maximum(np.sum(G**2, axis=1), np.finfo(np.float64).tiny)


def nearest_circulant(G):
    """The circulant matrix closest to G: each wrapped diagonal replaced by its mean.

    C_ij depends only on (j - i) mod n, so x -> C @ x is a convolution over the group of n cyclic
    shifts: it commutes with shifting the features (it is equivariant). The mean is the closest
    constant in the sum of squares, and the diagonals do not overlap. Returns C (n, n).
    """
    G = square_array("G", G)
    i, j = np.indices(G.shape)
    means = G[i, (i + j) % len(G)].mean(axis=0)                        # (n,), one per diagonal
    return means[(j - i) % len(G)]


# --- 6. What does interference do? ----------------------------------------------------------------


def attribution_graph(U, b, x):
    """The weights as one example x (n,) uses them: edges U_ij x_j into targets that fire, (n, n).

    Circuit Tracing (Ameisen et al. 2025), for a model without attention or layers.
    """
    U, b, x, _, _ = circuit(U, b, finite_array("x", x, (None,))[None])
    fires = x @ U.T + b > 0                                            # (1, n)
    return fires.T * U * x


def steering_vector(h, active):
    """Difference of means: mean h where a feature is active minus mean h where it is not, (m,).

    h (B, m) activations, active (B,) booleans, neither all true nor all false. The recipe of
    Persona Vectors (arXiv 2507.21509).
    """
    h = finite_array("h", h, (None, None))
    active = finite_array("active", active, (len(h),)) > 0
    check(0 < active.sum() < len(h), "active", "true for some examples, not for all", active.sum())
    return h[active].mean(axis=0) - h[~active].mean(axis=0)


def excess_error(U, b, A, v, x, delta):
    """Error that moving from x to x + delta adds, against the ideal circuit's own answers.

    error(x) = sum_i (relu(U x + b)_i - relu(A x + v)_i)^2, so a perfect model scores 0 everywhere.
    x (B, n); delta (B, n), or (n,) for all examples. Returns error(x + delta) - error(x), (B,).
    """
    U, b, x, _, _ = circuit(U, b, x)
    A, v = finite_array("A", A, U.shape, U.dtype), finite_array("v", v, b.shape, U.dtype)
    delta = finite_array("delta", delta, x.shape if np.ndim(delta) == 2 else b.shape, U.dtype)

    def error(x):
        return np.sum((relu(x @ U.T + b) - relu(x @ A.T + v))**2, axis=1)

    return error(x + delta) - error(x)


def worst_case_perturbation(U, b, A, v, x, size):
    """The perturbation of length `size` along a row of U - A, forward or backward, that hurts most.

    A row of U - A is the direction in which one target's interference adds up fastest, before the
    relu. All 2n directions are tried on each example x (B, n) and the worst is kept: a lower bound
    on the worst case of that length. (A row of zeros stands for no perturbation.)

    Returns (delta (B, n), its excess error (B,)).
    """
    check(0 < size < np.inf, "size", "positive", size)
    U, b, x, _, _ = circuit(U, b, x)
    rows = U - finite_array("A", A, U.shape, U.dtype)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= float(size) / np.where(lengths > 0, lengths, 1)
    directions = np.vstack([rows, -rows])                                     # (2n, n)
    excess = np.array([excess_error(U, b, A, v, x, d) for d in directions])   # (2n, B)
    return directions[np.argmax(excess, axis=0)], np.max(excess, axis=0)
