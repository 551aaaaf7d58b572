"""Which virtual weights are real? Exact effects, a formula that predicts them, and cheap scores.

Lift a trained toy model back to feature space and it is one matrix U (n, n) with a bias b (n,):
y_hat = relu(U x + b). A few entries of U are the circuit that the task asks for; most exist only
because features share dimensions: interference. This file asks, in order:

    1  What does each weight do?          exact ablation, second order, the one-weight formula
    2  Which weights are real?            Definition 1 (ideal), Definition 2 (loss), learned mask
    3  What finds them cheaply?           scores from activations, from directions, from answers
    4  How good is a ranking?             precision and recall, the loss of a pruned model
    5  What does sharing cost?            shares of a dimension, prices, steering
    6  What structure is in it?           set means, shared weights, graphs of examples
    7  Trained models                     one recipe each, shared by figures and tests

Notation, the note, and the errors that `arrays` raises for bad input: see `toymodel.py`.
"""
from toymodel import (LiftedModel, MaskedModel, TiedModel, UntiedModel, arrays, block_task,
                      correlated_task, generator, identity_task, relu, require, squared_error,
                      train)  # first, as it sets the number of BLAS threads

import copy
import sys
from functools import cache, cached_property, wraps
from types import MappingProxyType

import numpy as np

TINY = np.finfo(np.float64).tiny  # in place of 0, where something is divided by it
THRESHOLD = 1e-4  # Definition 2: a weight is real if ablating it raises the loss by more


def booleans(name, value, shape):
    """`value` as an array of booleans of this shape: labels, not numbers."""
    arrays(f"{name} *", value)
    array = np.asarray(value)
    require(array.dtype == bool, f"{name} must be booleans, got {array.dtype}")
    require(array.shape == shape, f"{name} must have shape {shape}, got {array.shape}")
    return array


# --- 1. What does each weight do? -----------------------------------------------------------------

def ablations(U, b, x):
    """Yield j, rows (R,) of x, y_hat (R, n) there, and the same with U_ij ablated in column i.

    Ablating U_ij moves z_i by -U_ij x_j and touches nothing else, and where x_j = 0 not even that.
    So go over sources, and for each only over the examples in which it is active: n steps for each
    active feature, not n^2 for each example. Chunks fit the processor's cache: half the time.
    """
    chunk = 1 + 2**16 * len(x) // max(1, np.count_nonzero(x))    # R n is about 2^16 numbers
    for start in range(0, len(x), chunk):
        x_chunk = x[start:start + chunk]
        z = x_chunk @ U.T + b
        y_hat = relu(z)
        for j in range(len(U)):
            rows = np.flatnonzero(x_chunk[:, j])
            after = relu(z[rows] - np.outer(x_chunk[rows, j], U[:, j]))      # (R, n)
            yield j, start + rows, y_hat[rows], after


def ablation_effects(U, b, x, y, importance=None):
    """Exact effect of each weight on the loss: dL_ij = L(U with U_ij = 0) - L(U), (n, n), float64.

    Positive: it helps; above THRESHOLD it is real (the note, Definition 2). Only target i changes:

        dL_ij = 1/B importance_i sum_b [ (y_hat_bi without U_ij - y_bi)^2 - (y_hat_bi - y_bi)^2 ]
    """
    U, b, x, y, importance = arrays("U nn, b n, x Bn, y Bn, importance n?", U, b, x, y, importance)
    dL = np.zeros(U.shape)
    for j, rows, before, after in ablations(U, b, x):
        dL[:, j] += np.sum((after - y[rows])**2 - (before - y[rows])**2, axis=0)
    return importance[:, None] * dL / len(x)


def ablation_standard_errors(U, b, x, y, importance=None):
    """Standard error (n, n) of each of the `ablation_effects`, which are means over examples: the
    sample standard deviation of what is averaged, over sqrt(B)."""
    U, b, x, y, importance = arrays("U nn, b n, x Bn, y Bn, importance n?", U, b, x, y, importance)
    require(len(x) >= 2, "x must have at least 2 examples")
    mean, mean_square = np.zeros(U.shape), np.zeros(U.shape)
    for j, rows, before, after in ablations(U, b, x):
        d = (after - y[rows])**2 - (before - y[rows])**2         # (R, n), in other examples 0
        mean[:, j] += d.sum(axis=0) / len(x)
        mean_square[:, j] += np.sum(d**2, axis=0) / len(x)
    variance = np.maximum(mean_square - mean**2, 0)
    return importance[:, None] * np.sqrt(variance / (len(x) - 1))


def second_order_effects(U, b, x, y, importance=None):
    """`ablation_effects` as if no gate flipped: two matrix products beyond the forward pass.

    With gates held fixed the loss is a parabola in U_ij; setting U_ij to 0 gives

        dL_ij ~ importance_i ( -2 U_ij E[gate_i e_i x_j] + U_ij^2 E[gate_i x_j^2] ),   e = y_hat - y

    minus gradient times weight, plus half the second derivative times its square: the saliency of
    Optimal Brain Damage (LeCun, Denker, Solla 1990) with the gradient that it drops at a minimum.
    Here it is not 0: n^2 weights hang on fewer than 2 n m numbers. Returns (n, n).
    """
    U, b, x, y, importance = arrays("U nn, b n, x Bn, y Bn, importance n?", U, b, x, y, importance)
    z = x @ U.T + b                                              # (B, n)
    gate = (z > 0).astype(U.dtype)                               # (B, n)
    slope = (gate * (z - y)).T @ x / len(x)                      # (n, B) @ (B, n) -> (n, n)
    curvature = gate.T @ x**2 / len(x)                           # (n, B) @ (B, n) -> (n, n)
    return importance[:, None] * (-2 * U * slope + U**2 * curvature)


def predicted_effects(U, b, x, A):
    """What the circuit A and two moments of x say about every weight: no answers, no ablation.

    What must the averages in `second_order_effects` be? Assume that where gate i is open

      (1) x_j has its usual mean mu and variance sigma^2, and is independent of the other sources;
      (2) E[e_i] = 0, which is what the gradient of a trained bias asks for;
      (3) y_i is affine in x, with the weights A_i.

    Then e_i = (U_i - A_i) x + constant, so that E[e_i x_j] is a covariance, (U_ij - A_ij) sigma^2,
    and E[x_j^2] = sigma^2 + mu^2. Put in, -2 U E[e x] + U^2 E[x^2] becomes

        dL_ij = q_i ( sigma^2 U_ij (2 A_ij - U_ij) + mu^2 U_ij^2 )

    Outside the circuit this is -q (sigma^2 - mu^2) U^2: harm, as the square of the weight, while
    E[x]^2 < Var x. Features of density s, uniform where active, have mu = s/2 and sigma^2 = s/3 -
    s^2/4: harm below s = 2/3, help above. It ends where gates flip, y bends or features correlate.
    Returns (n, n), for importance 1. Ours.
    """
    U, b, x, A = arrays("U nn, b n, x Bn, A nn", U, b, x, A)
    q = np.mean(x @ U.T + b > 0, axis=0)[:, None]                # (n, 1)
    mu, variance = x.mean(axis=0), x.var(axis=0)                 # (n,)
    return q * (variance * U * (2 * A - U) + mu**2 * U**2)


def predicted_pruning(U, b, x, A, kept, refit_bias=False):
    """Change of the loss, predicted, if all weights that are not `kept` are removed at once.

    As `predicted_effects`, with a set R of removed sources: z_i moves by -sum_R U_ij x_j. Of these
    the variances add up, but the means add up before they are squared:

        sum_i q_i [ sum_R sigma^2 U_ij (2 A_ij - U_ij) + (sum_R mu U_ij)^2 ]

    The square of a sum is why single effects do not add up (the note, Appendix 4). A refitted bias
    takes the mean up, and the square is gone. kept (n, n) booleans. Returns a float.
    """
    U, b, x, A = arrays("U nn, b n, x Bn, A nn", U, b, x, A)
    removed = np.where(booleans("kept", kept, U.shape), 0, U)    # (n, n)
    q = np.mean(x @ U.T + b > 0, axis=0)                         # (n,)
    mu, variance = x.mean(axis=0), x.var(axis=0)                 # (n,)
    spread = np.sum(variance * removed * (2 * A - removed), axis=1)
    shift = 0 if refit_bias else (removed @ mu)**2
    return float(np.sum(q * (spread + shift)))


# --- 2. Which weights are real? -------------------------------------------------------------------

def ideal_weights(U, b, task, l1=1e-4, steps=3000, learning_rate=0.003, seed=0, only=None,
                  progress=None):
    """Definition 1: what the weights become once every one of them is free (n x n, no bottleneck).

    Trains U and b from the model's, with a small penalty l1 * sum|U|, which decides about weights
    that the data leave free. A gate that is shut on every example would never open, so biases start
    no lower than where the mean of z is 0. only=("U",) keeps b, and the weights make up for it.
    Returns (U_star (n, n), b_star (n,)), which belong together. The note, section "Real weights".
    """
    lifted = LiftedModel(U, b, l1)
    if only is None:
        x, _ = task.batch(generator(seed), 256)
        lifted.b = np.maximum(lifted.b, -(x @ lifted.U.T).mean(axis=0))
    train(lifted, task, steps, 256, learning_rate, seed, "cosine", (), only, progress)
    return lifted.U, lifted.b


def learned_mask(U, b, task, penalty=1e-3, steps=2000, learning_rate=0.03, seed=0, progress=None):
    """The mask alternative: learn which weights to keep, all at once, at a price for each, by
    training a `MaskedModel` from masks of 1/2 on. Returns (mask (n, n) in [0, 1], b (n,))."""
    masked = MaskedModel(U, b, np.zeros(np.shape(U)), penalty)
    train(masked, task, steps, 256, learning_rate, seed, "cosine", progress=progress)
    return masked.mask(), masked.b


# --- 3. What finds them cheaply? ------------------------------------------------------------------

def row_space(U):
    """V (r, n): orthonormal rows that span those of U, r its rank. P = V.T @ V projects on them."""
    U, = arrays("U nn", U, dtype=np.float64)
    require(U.any(), "U must not be all zeros")
    _, sizes, V = np.linalg.svd(U / np.abs(U).max())
    return V[sizes > 1e-5 * sizes[0]]                            # below: rounding in float32


def cosine_score(U):
    """How well what target i reads fits where source j is stored: cos(U_i, P_j), (n, n).

    Row U_i is what target i reads; column P_j of the projection on the rows of U is what is left of
    source j in the m dimensions. As U P = U, the weight U_ij is the inner product of the two, and
    this score is the weight without their lengths. P = V^T V (`row_space`), so |P_j| = |V_j|.
    """
    U, V = arrays("U nn", U, dtype=np.float64)[0], row_space(U)
    U = U / np.abs(U).max()
    lengths = np.outer(np.linalg.norm(U, axis=1), np.linalg.norm(V, axis=0))
    return U / np.maximum(lengths, TINY)


def sparse_code(atoms, rows, penalty, steps=2000, tolerance=1e-4):
    """Each row w of `rows` (k, m) from few columns of `atoms` (m, p): codes (k, p) >= 0.

    Compressed sensing, as a non-negative lasso: with D the atoms, each divided by its length so
    that the penalty is the same price for all, find the c >= 0 with the smallest

        1/2 |D c - w|^2 + penalty sum_a c_a

    Its smooth half has gradient D^T (D c - w), which changes by at most |D|^2 |c - c'| from c to c'
    (|D|: the largest singular value). So a gradient step of 1 / |D|^2, then a soft threshold that
    also keeps c >= 0, never raises it:

        c <- max(c - (D^T (D c - w) + penalty) / |D|^2, 0)

    FISTA (Beck and Teboulle 2009) takes this step not from c but from a point a little further on,
    c + (t - 1) / t' (c - previous c) with t' = (1 + sqrt(1 + 4 t^2)) / 2, which is much faster. It
    stops when no code moves by more than `tolerance` of the largest, or after `steps`.
    """
    D, rows = arrays("atoms mp, rows km", atoms, rows, dtype=np.float64)
    require(penalty > 0, f"penalty must be positive, got {penalty}")
    D = D / np.maximum(np.linalg.norm(D, axis=0), TINY)
    step = 1 / np.linalg.norm(D, 2)**2
    c = further = np.zeros((len(rows), D.shape[1]))
    t = 1.0
    for _ in range(steps):
        slope = (further @ D.T - rows) @ D                       # D^T (D c - w) in each row
        previous, c = c, np.maximum(further - step * (slope + penalty), 0)
        previous_t, t = t, (1 + np.sqrt(1 + 4 * t**2)) / 2
        further = c + (previous_t - 1) / t * (c - previous)
        if np.abs(c - previous).max() <= tolerance * c.max():
            break
    return c


def code_score(U, penalty=0.01):
    """A sparse circuit that U could be a linear read-out of, (n, n) >= 0, from the weights alone.

    If W_up were the best linear read-out of A x, x white, U would be A P: row U_i a sum of columns
    P_j with weights A_ij. A sparse code of U_i in them, of length 1 each, is a guess at A_ij |P_j|;
    in coordinates of the row space, of U V^T in V. penalty: a share of the smallest with no code.
    """
    require(penalty > 0, f"penalty must be positive, got {penalty}")
    U, V = arrays("U nn", U, dtype=np.float64)[0], row_space(U)
    rows = U / np.abs(U).max() @ V.T                             # (n, n) @ (n, r) -> (n, r)
    none_left = (rows @ V / np.maximum(np.linalg.norm(V, axis=0), TINY)).max()
    return sparse_code(V, rows, max(penalty * none_left, TINY))


def combined_ranks(*scores):
    """minus the sum of the log ranks of several scores of one shape: large if all rank it high.

    Ranks start at 1 for the largest; ties share the mean of their places. One very high place
    outweighs several middling ones, as in Fisher's sum of log p-values. A heuristic.
    """
    scores = arrays(", ".join(["scores *"] * len(scores)), *scores, dtype=np.float64)
    require(len({score.shape for score in scores}) == 1, "scores must have one shape")
    total = np.zeros(scores[0].size)
    for score in scores:
        _, group, sizes = np.unique(-score.ravel(), return_inverse=True, return_counts=True)
        total -= np.log((np.cumsum(sizes) - (sizes - 1) / 2)[group])
    return total.reshape(scores[0].shape)


def all_scores(U, b, x, y):
    """Every score by its name, (n, n) each; the weight most likely real scores highest.

    "era" and "twera" (Circuit Tracing, Ameisen et al. 2025, section "Global Weights") are expected
    residual attribution and its target-weighted form; "target_weighted" is that without the
    denominator, as the note says: big effects on big things. "cosine" and "code" need U alone.
    "second_order" alone needs y, and approximates what defines "real": so partly by construction.
    """
    U, b, x, y = arrays("U nn, b n, x Bn, y Bn", U, b, x, y)
    B, y_hat = len(x), relu(x @ U.T + b)                         # (B, n)
    fires, active = (y_hat > 0).astype(U.dtype), (x > 0).astype(U.dtype)
    mean = np.maximum(y_hat.mean(axis=0, dtype=np.float64), TINY)[:, None]
    scores = {
        "weight": U.copy(),                                      # U_ij
        "era": fires.T @ x / B * U,                              # E[1(y_hat_i > 0) x_j] U_ij
        "target_weighted": y_hat.T @ x / B * U,                  # E[y_hat_i x_j] U_ij
        "twera": y_hat.T @ x / B * U / mean,                     # the same over E[y_hat_i]
        "frequency": fires.T @ active / B,                       # P(y_hat_i > 0 and x_j > 0)
        "cosine": cosine_score(U),
        "code": code_score(U),
        "second_order": second_order_effects(U, b, x, y)}
    scores["all_three"] = combined_ranks(scores["era"], scores["cosine"], scores["code"])
    return scores


# --- 4. How good is a ranking? --------------------------------------------------------------------

def ranking(scores):
    """Flat indices of `scores` from the largest to the smallest; ties stay in reading order."""
    scores, = arrays("scores *", scores, dtype=np.float64)
    return np.argsort(-scores.ravel(), kind="stable")


def running_sums(scores, values):
    """(sums of `values`, counts), from the best score down: one entry for each different score, as
    weights of the same score cannot be told apart: a whole group of ties counts at once."""
    scores, values = arrays("scores *, values *", scores, values, dtype=np.float64)
    require(scores.shape == values.shape, "scores and what they rank must have one shape")
    order = ranking(scores)
    last = np.flatnonzero(np.diff(scores.flat[order], append=np.nan))     # of each group
    return np.cumsum(values.flat[order])[last], last + 1


def precision_recall(scores, is_real):
    """(precision, recall) of what is kept, from the best score down, one point for each score.

    precision: share of the kept weights that is real. recall: share of the real ones that is kept.
    Example: scores [3, 1, 2, 1], of which the first two are real. Keep the 3; the 2 too; all four,
    as the two 1 are a tie: precision [1, 1/2, 1/2] and recall [1/2, 1/2, 1].
    is_real: booleans in the shape of scores. Raises ValueError if nothing is real.
    """
    found, counts = running_sums(scores, booleans("is_real", is_real, np.shape(scores)))
    require(found[-1] > 0, "is_real must be true somewhere")
    return found / counts, found / found[-1]


def average_precision(precision, recall):
    """Area under a precision-recall curve: sum_k precision_k (recall_k - recall_{k-1}).

    In the example of `precision_recall`: 1 * 1/2 + 1/2 * 0 + 1/2 * 1/2 = 3/4. A perfect ranking
    scores 1, a constant score the share of real weights (the base rate), a random one about that.
    """
    precision, recall = arrays("precision k, recall k", precision, recall)
    return float(np.sum(precision * np.diff(recall, prepend=0)))


def loss_gain(scores, dL):
    """Sum of dL over what is kept, one point for each score, as in `precision_recall`: a proxy, as
    single effects do not add up. The loss itself is `lifted_loss` of `keep`."""
    return running_sums(scores, dL)[0]


def keep(U, scores, count):
    """U (n, n) with all but the `count` best-scored entries 0 (ties in reading order)."""
    U, scores = arrays("U nn, scores nn", U, scores)
    require(0 <= count <= U.size, f"count must be in 0..{U.size}, got {count}")
    kept = U.copy()
    kept.flat[ranking(scores)[count:]] = 0
    return kept


def lifted_loss(U, b, x, y, *, refit_bias=False, importance=None):
    """The loss of relu(U x + b), a float; refit_bias: with the `best_bias` on these examples."""
    U, b, x, y, importance = arrays("U nn, b n, x Bn, y Bn, importance n?", U, b, x, y, importance)
    drive = x @ U.T                                              # (B, n)
    bias = best_bias(drive, y) if refit_bias else b
    return squared_error(drive + bias.astype(U.dtype), y, importance)[0]


def best_bias(drive, y):
    """The bias b (n,) with the smallest E[(relu(drive + b) - y)^2] per target: exact, and global.

    drive (B, n) is z without its bias. Lower b from infinity and gates shut one by one, that of the
    smallest drive first. While the k largest are open the loss is a parabola in b, with its bottom
    at the mean of y - drive over them, valid for -drive_k <= b <= -drive_{k+1}. So: sort, take the
    k bottoms from cumulative sums, clip each into its interval, keep the best. (All gates shut is
    k = 1 with b clipped to -drive_1.) Gradient steps cannot reopen a target that is shut.
    """
    drive, y = arrays("drive Bn, y Bn", drive, y, dtype=np.float64)
    order = np.argsort(-drive, axis=0)
    drive, y = (np.take_along_axis(a, order, axis=0) for a in (drive, y))
    k = np.arange(1, len(drive) + 1)[:, None]                    # (B, 1), gates open
    gap = np.cumsum(y - drive, axis=0)                           # (B, n)
    shut = np.vstack([drive[1:], np.full_like(drive[:1], -np.inf)])      # (B, n), the largest shut
    b = np.clip(gap / k, -drive, -shut)                          # (B, n)
    square = np.cumsum(drive * (drive - 2 * y), axis=0)          # (B, n)
    loss = square - 2 * b * gap + k * b**2                       # times B, less the sum of y^2
    return b[np.argmin(loss, axis=0), np.arange(b.shape[1])]


# --- 5. What does sharing cost? -------------------------------------------------------------------

def shares(U):
    """The share P_ii of a dimension that each source has, (n,) in [0, 1]; the sum is the rank."""
    return np.sum(row_space(U)**2, axis=0)


def price(U):
    """|U_i|^2 / U_ii^2 (n,): all that output i reads, over what it should, squared; never below 1.

    U_i = U_i P, so U_ii = <U_i, P_i>, with P_i column i of P. By Cauchy-Schwarz, as |P_i|^2 = P_ii,

        U_ii^2 <= |U_i|^2 P_ii,     so     price_i >= 1 / share_i

    for any read-out, tied or not: exactly, price_i = 1 / (P_ii cos_ii^2) with the `cosine_score`.
    As shares add up to m at most, the mean price is n / m or more. For a tied model a price is 1
    over the `feature_dimensionality`. Raises ValueError if a U_ii is 0. Derived; ours.
    """
    U, = arrays("U nn", U, dtype=np.float64)
    require(U.diagonal().all(), "every U_ii must differ from 0")
    return np.sum((U / U.diagonal()[:, None])**2, axis=1)


def feature_dimensionality(W):
    """The share of a dimension that each feature has: D_i = |W_i|^4 / sum_j (W_i . W_j)^2.

    W (m, n) holds one column W_i per feature. 1: a dimension of its own; 1/2: an antipodal pair;
    2/5: a pentagon; 0: not represented (W_i = 0). Returns (n,). Toy Models of Superposition.
    """
    W, = arrays("W mn", W, dtype=np.float64)
    W = W / max(np.abs(W).max(), TINY)                           # D does not know the scale
    U = W.T @ W                                                  # (n, n), W_i . W_j
    return U.diagonal()**2 / np.maximum(np.sum(U**2, axis=1), TINY)


def steering_vector(h, active):
    """Mean h (B, m) where a feature is `active` (B,) minus the mean where it is not, (m,): the
    recipe of Persona Vectors (arXiv 2507.21509)."""
    h, = arrays("h Bm", h)
    active = booleans("active", active, (len(h),))
    require(0 < active.sum() < len(h), "active must be true for some examples, not for all")
    return h[active].mean(axis=0) - h[~active].mean(axis=0)


def steering_side_effects(model, x, feature):
    """What steering one feature of a tied model does to the others, (before, after) the relu.

    In every example x (B, n), h moves along the `steering_vector` of feature j, so far that its own
    z_j moves by 1. If features are independent the vector is a multiple of W_j, plus noise. Along
    W_j / |W_j|^2 the others move by W_k . W_j / |W_j|^2, and before the relu their squares add up
    to price_j - 1. The relu hides what stays below 0:

        after = sum_{k != j} E[(change of y_hat_k)^2] / E[(change of y_hat_j)^2]
    """
    W, b, x = arrays("W mn, b n, x Bn", model.W, model.b, x)
    h = x @ W.T                                                  # (B, n) @ (n, m) -> (B, m)
    z = h @ W + b                                                # (B, m) @ (m, n) -> (B, n)
    push = steering_vector(h, x[:, feature] > 0) @ W             # (m,) @ (m, n) -> (n,)
    require(push[feature] > 0, f"feature {feature} is not stored")
    push /= push[feature]
    change = np.mean((relu(z + push) - relu(z))**2, axis=0)      # (n,)
    return float(np.sum(push**2) - 1), float(change.sum() / change[feature] - 1)


# --- 6. What structure is in it? ------------------------------------------------------------------

def set_mean_component(U, set_size):
    """The part of U that only knows sets: each block of set_size x set_size replaced by its mean.

    Means leave the diagonal of U out, where the real weights sit; the result has it filled in.
    Returns (n, n). The note, Appendix 3. Raises ValueError unless sets of two or more divide n.
    """
    U, = arrays("U nn", U, dtype=np.float64)
    n, size = len(U), set_size
    require(size > 1 and n % size == 0, f"set_size must divide {n} and be 2 or more, got {size}")
    sets = n // size
    off_diagonal = U * (1 - np.eye(n))                                   # (n, n)
    totals = off_diagonal.reshape(sets, size, sets, size).sum(axis=(1, 3))
    counts = size**2 - size * np.eye(sets)                               # (sets, sets)
    return np.kron(totals / counts, np.ones((size, size)))


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

    up to 0.001. Below 90 degrees positive cross outputs must be unlearned. The note, Appendix 1.
    """
    D, = arrays("directions nm", directions, dtype=np.float64)
    n, m = D.shape
    M = 0.001 * np.eye(m)
    x = np.eye(n)[active]                                                # (B, n)
    for _ in range(400):
        lifted = LiftedModel(D @ M @ D.T, np.zeros(n))
        dU = lifted.loss_and_gradients(x, 2 * x)[1]["U"]                 # (n, n)
        M -= 0.2 * D.T @ dU @ D
    return M


def attribution_graph(U, b, x):
    """Edges U_ij x_j into the targets that fire in one example x (n,), (n, n). Circuit Tracing."""
    U, b, x = arrays("U nn, b n, x n", U, b, x)
    return (U @ x + b > 0)[:, None] * U * x


def graph_precision(U, b, is_real, x, y, threshold=0.01):
    """What makes one example's graph cleaner than the weights: attribution, or what it leaves out?

    Right edges are those of real weights that help this very example: without the edge its squared
    error would grow by more than `threshold` >= 0, and its target fires. Each design ranks what it
    keeps, and its precision is that among as many edges as are right:

        "all"          all weights, by U_ij             "active"   from active sources, by U_ij
        "firing"       into firing targets, by U_ij     "in play"  both, by U_ij
        "attribution"  both, by U_ij x_j                "chance"   both, at random

    Returns a dict of means over the examples x (B, n), y (B, n) with a right edge, and "none", the
    share without. (A right edge is in play by definition: a source that is off cannot help.)
    """
    U, b, x, y = arrays("U nn, b n, x Bn, y Bn", U, b, x, y)
    is_real = booleans("is_real", is_real, U.shape)
    require(threshold >= 0, f"threshold must be 0 or more, got {threshold}")
    found = []
    for example, answer in zip(x, y):
        active, fires = example != 0, (U @ example + b > 0)[:, None]     # (n,), (n, 1)
        helps = ablation_effects(U, b, example[None], answer[None]) > threshold
        right = is_real & fires & helps
        if k := right.sum():
            designs = {"all": (True, U), "active": (active, U), "firing": (fires, U),
                       "in play": (fires & active, U), "attribution": (fires & active, U * example)}
            precision = {name: right.flat[ranking(np.where(kept, score, -1e9))[:k]].mean()
                         for name, (kept, score) in designs.items()}
            found.append(precision | {"chance": k / (fires & active).sum()})
    require(found, "x must have an example with a right edge")
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return means | {"none": 1 - len(found) / len(x)}


# --- 7. Trained models, for figures, exercises and tests ------------------------------------------

def read_only(array):
    """A copy of the array that cannot be written."""
    array = np.array(array)
    array.flags.writeable = False
    return array


class Trained:
    """A trained model and what is measured on it, each once, when it is first asked for.

    Three samples, so that none knows the noise of another: `labelled` (also x, y) for dL, is_real
    and the loss, `other` for scores, `fresh` for pruned models. All targets count alike;
    `over_constant` is the loss over that of the best constant answer, the variances of y added up.
    Models are shared, so arrays are read-only copies.
    """

    def __init__(self, task, model, seed, examples=16384):
        self.task, self.model, self.seed, self.examples = task, copy.deepcopy(model), seed, examples
        for parameter in self.model.parameters.values():
            parameter.flags.writeable = False
        self.U, self.b = read_only(model.virtual_weights()), self.model.b

    def sample(self, stream):
        """x, y (examples, n), from a stream of random numbers of its own."""
        rng = generator((self.seed, 1000 + stream))
        return tuple(map(read_only, self.task.batch(rng, self.examples)))

    labelled = cached_property(lambda self: self.sample(1))
    other = cached_property(lambda self: self.sample(2))
    fresh = cached_property(lambda self: tuple(part[:4096] for part in self.sample(3)))
    x = property(lambda self: self.labelled[0])
    y = property(lambda self: self.labelled[1])

    dL = cached_property(lambda self: read_only(ablation_effects(self.U, self.b, self.x, self.y)))
    is_real = cached_property(lambda self: read_only(self.dL > THRESHOLD))
    loss = cached_property(lambda self: lifted_loss(self.U, self.b, self.x, self.y))
    over_constant = property(lambda self: float(self.loss / self.y.var(axis=0).sum()))
    scores = cached_property(lambda self: MappingProxyType(
        {name: read_only(score)
         for name, score in all_scores(self.U, self.b, *self.other).items()}))

    def average_precision(self, name):
        """How well the score of that name finds the real weights."""
        return average_precision(*precision_recall(self.scores[name], self.is_real))

    def pruned(self, score, count=None, refit_bias=False):
        """Loss on the fresh sample if only the `count` best weights are kept, over the whole
        model's. score: (n, n) or a name. count: by default as many as are real."""
        score = self.scores[score] if isinstance(score, str) else score
        kept = keep(self.U, score, self.is_real.sum() if count is None else count)
        return (lifted_loss(kept, self.b, *self.fresh, refit_bias=refit_bias)
                / lifted_loss(self.U, self.b, *self.fresh))


def counter(done, steps):
    """A live count of training steps, on a terminal only."""
    if sys.stderr and sys.stderr.isatty() and (done % 100 == 0 or done == steps):
        print(f"  training: step {done} of {steps}\x1b[K", end="\r", file=sys.stderr, flush=True)


def recipe(build):
    """Make a recipe: the same call trains once."""
    once = cache(build)

    @wraps(build)
    def trained(seed, *arguments, **options):
        generator(seed)                  # refuses True, which to the cache is the same as 1
        return once(seed, *arguments, **options)
    return trained


@recipe
def pentagon_models(seed, density, decay):
    """5 features in 2 dimensions, importance decay^i: (loss, Trained) of each of four starts, the
    best first, as a start can end in a worse arrangement."""
    task, trained = identity_task(5, density, importance=decay ** np.arange(5)), []
    x, y = task.batch(generator((seed, 1000)), 32768)
    for start in range(4):
        model = TiedModel.initialise(generator((seed, start)), 5, 2)
        train(model, task, 1500, 1024, 1e-2, seed, "cosine", progress=counter)
        trained.append((model.loss(x, y, task.importance), Trained(task, model, seed)))
    return tuple(sorted(trained, key=lambda pair: pair[0]))


@recipe
def simple_model(seed, density=0.02, start=None, converged=False):
    """The simple model: a tied model gives back 100 features through 20 dimensions. 300 steps leave
    it undertrained, as the note does on purpose; `converged` takes ten times as many. `seed` fixes
    the data and, unless `start` does, the initial weights."""
    task = identity_task(100, density)
    model = TiedModel.initialise(generator(seed if start is None else start), 100, 20)
    how = (3000, 256, 3e-3, seed, "cosine") if converged else (300, 1024, 1e-3, seed)
    train(model, task, *how, progress=counter)
    return Trained(task, model, seed)


@recipe
def untied_model(seed, density):
    """The simple configuration with a read-out of its own: 100 features, 20 dimensions."""
    task, model = identity_task(100, density), UntiedModel.initialise(generator(seed), 100, 20)
    train(model, task, 2000, 512, 3e-3, seed, "cosine", progress=counter)
    return Trained(task, model, seed)


@recipe
def block_stages(seed, run=0, density=0.3, stages=(300, 1000, 3000, 10000)):
    """The block model, the note's circuit of 128 features through 16 dimensions, at several stages
    of one training run: a dict, steps -> Trained. `seed` fixes the circuit; each run trains on it
    independently, from a textbook start."""
    task = block_task(density=density, seed=seed)
    model = UntiedModel.initialise(generator((seed, run, 1)), 128, 16)
    found = train(model, task, max(stages), 256, 1e-3, (seed, run), "constant", stages,
                  progress=counter).snapshots
    return MappingProxyType({step: Trained(task, UntiedModel(**found[step]), seed)
                             for step in stages})


def block_model(seed, run=0, density=0.3):
    """The block model: `block_stages` at 1000 steps, trained no further."""
    return block_stages(seed, run, density, stages=(1000,))[1000]


@recipe
def correlated_model(seed):
    """Two sets of 100 features that are never active together, through 20 dimensions."""
    task, model = correlated_task(), TiedModel.initialise(generator(seed), 200, 20)
    train(model, task, 2000, 512, 2e-3, seed, progress=counter)
    return Trained(task, model, seed)
