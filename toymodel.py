"""Toy models of superposition in pure NumPy, with every gradient derived by hand.

A network that must carry n features through m < n dimensions stores them as directions that are not
orthogonal: superposition. Two features that share a direction disturb each other only when both are
active, which is rare if features are sparse, and a relu removes small disturbances. This file holds
what it takes to watch that happen: features, tasks, four models, their gradients, Adam, training.
What the resulting weights mean is the subject of `interference.py`. Run it (`python toymodel.py`, a
few seconds) to see gradients checked, a pentagon trained and the cost of a training step.

Notation. Every file uses it. Papers write column vectors, h = W x; here each *row* of an array is
one example, so the same product reads h = x @ W.T.

    symbol      shape    meaning
    ----------  -------  --------------------------------------------------------------------------
    n, m, B              n_features, n_residual, batch_size
    x           (B, n)   features: each nonzero with probability `density`, then uniform on [0, 1]
    W_down      (m, n)   into the residual space of m dimensions
    h           (B, m)   what is there: h = x @ W_down.T
    W_up        (n, m)   out of it
    b           (n,)     bias
    z, y_hat    (B, n)   z = h @ W_up.T + b, and the model's output y_hat = relu(z)
    W           (m, n)   W_down of a tied model, in which W_up is W.T
    U           (n, n)   virtual weights, W_up @ W_down: U[i, j] carries source j to target i
    A           (n, n)   weights of the ideal circuit, which gives the right answers
    v           (n,)     its bias: y = relu(x @ A.T + v)
    importance  (n,)     how much each target counts in the loss (all ones unless said)

The loss is a mean over the batch and a sum over the targets (two models add a regulariser):

    L = 1/B sum_b sum_i importance_i (y_hat_bi - y_bi)^2

One derivation serves all four models. Each computes z_bi = sum_j U_ij x_bj + b_i; they differ only
in what U is made of. The chain rule, from the loss backwards (1[z > 0] is 1 where the relu lets z
through, its gate being open, and 0 elsewhere):

    g_bi = dL/dz_bi = 2/B importance_i (y_hat_bi - y_bi) 1[z_bi > 0]
    dL/db_i  = sum_b g_bi                                 db = g.sum(axis=0)
    dL/dU_ij = sum_b g_bi x_bj                            dU = g.T @ x

and one more step leads from dU to what a model really trains:

    tied     U = W.T @ W            dW = dW_down + dW_up.T = W @ dU + W @ dU.T, as W is used twice
    untied   U = W_up @ W_down      dW_up = dU @ W_down.T,   dW_down = W_up.T @ dU
    lifted   U itself               dU + l1 sign(U), with the regulariser l1 sum|U|
    masked   U = V * s              dlogits = (dU * V + penalty) * s * (1 - s): V is fixed, and
                                    s = sigmoid(logits), s' = s (1 - s), regulariser penalty sum s

A matrix product may be bracketed either way, so tied and untied models never form dU. For example
dW_up = (g.T @ x) @ W_down.T = g.T @ (x @ W_down.T) = g.T @ h: the first bracketing takes more than
B n^2 multiplications, the last B n m, and h is there from the forward pass. The tests compare them.

Sources: Toy Models of Superposition (Elhage et al. 2022) for the models and the features; A Toy
Model of Interference Weights (Olah, Turner, Conerly 2025; "the note") for the other two.
"""
import os

if __name__ == "__main__":  # matrices this small run slower when BLAS threads share them
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import copy
import math
import time
from functools import partial
from typing import NamedTuple

import numpy as np

# --- What every public function checks at its boundary --------------------------------------------


def check(condition, argument, requirement, value):
    """Raise a ValueError that names the argument, what was required and what came."""
    if not condition:
        raise ValueError(f"{argument} must be {requirement}, got {value}")


def finite_array(argument, value, shape, dtype=None):
    """`value` as a non-empty array of finite numbers; None in `shape` stands for any length.

    Floating dtypes are kept unless `dtype` is given; integers and booleans become float32.
    """
    array = np.asarray(value)
    if dtype is None and not np.issubdtype(array.dtype, np.inexact):
        dtype = np.float32
    array = shaped_array(argument, array, shape, dtype or array.dtype)
    check(np.isfinite(array).all(), argument, "finite", "NaN or infinite entries")
    return array


def square_array(argument, value):
    """`value` as a `finite_array` of shape (n, n)."""
    array = finite_array(argument, value, (None, None))
    return shaped_array(argument, array, (len(array), len(array)), array.dtype)


def shaped_array(argument, value, shape, dtype):
    """`value` as a non-empty array of that dtype; None in `shape` stands for any length."""
    array = np.asarray(value, dtype)
    fits = array.ndim == len(shape) and all(s in (None, a) for s, a in zip(shape, array.shape))
    check(fits and array.size > 0, argument, f"non-empty and of shape {shape}", array.shape)
    return array


# --- Data: sparse features, and tasks with a known ideal circuit ----------------------------------


def relu(z):
    """max(z, 0), elementwise. For complex z, which only `check_gradients` uses, z where z.real > 0.

    What is not finite is never hidden: NaN stays NaN, and -inf becomes NaN.
    """
    return z * (z.real > 0)


def sparse_features(rng, batch_size, n_features, density, dtype=np.float32):
    """Independent features: nonzero with probability `density`, then uniform on [0, 1].

    The naive version is rng.random(shape) * (rng.random(shape) < density). Two exact shortcuts:
    at low density, draw how many entries are active (binomial), which (any set of that size is
    equally likely) and only their values; else one uniform u decides both, because u / density
    is uniform on [0, 1] once u < density.

    Returns x (B, n). Raises ValueError for sizes below 1 or a density outside (0, 1].
    """
    check(batch_size >= 1, "batch_size", "at least 1", batch_size)
    check(n_features >= 1, "n_features", "at least 1", n_features)
    check(0 < density <= 1, "density", "in (0, 1]", density)
    size = batch_size * n_features
    if density < 0.1:
        x = np.zeros(size, dtype)
        count = rng.binomial(size, density)
        active = rng.choice(size, count, replace=False, shuffle=False)
        x[active] = rng.random(count, dtype)
    else:
        u = rng.random(size, dtype)
        x = u * (u < density)
        x /= density
    return x.reshape(batch_size, n_features)


def correlated_features(rng, batch_size, set_size, n_active=2, dtype=np.float32):
    """Two sets of features that are never active together (Appendix 3 of the note).

    In each example a fair coin picks one set, and exactly `n_active` distinct features of it, every
    choice of them equally likely, are uniform on (0, 1]. All others are 0.

    Returns x (B, 2 * set_size). Raises ValueError for sizes below 1 or n_active > set_size.
    """
    check(batch_size >= 1, "batch_size", "at least 1", batch_size)
    check(1 <= n_active <= set_size, "n_active", f"in 1..set_size = {set_size}", n_active)
    rows = np.arange(batch_size)
    start = set_size * rng.integers(0, 2, batch_size)  # (B,): where each example's set begins
    x = np.zeros((batch_size, 2 * set_size), dtype)
    for newest in range(set_size - n_active, set_size):  # Floyd's sampling without replacement:
        pick = start + rng.integers(0, newest + 1, batch_size)  # one of the first newest + 1,
        pick = np.where(x[rows, pick] > 0, start + newest, pick)  # or, if that is taken, the newest
        x[rows, pick] = 1 - rng.random(batch_size, dtype)  # never 0, so x > 0 means taken
    return x


class Task:
    """An ideal circuit and the features it is fed: y = relu(x @ A.T + v).

    A (n, n), v (n,), importance (n,) of values >= 0 or None for all ones; `sample(rng, batch_size)`
    returns x (B, n). Raises ValueError for shapes that do not fit and entries that are not finite.
    """

    def __init__(self, A, v, sample, importance=None):
        self.A = square_array("A", A)
        self.n_features = len(self.A)
        self.v = finite_array("v", v, (self.n_features,))
        self.sample = sample
        finite_array("sample(rng, 1)", sample(np.random.default_rng(0), 1), (1, self.n_features))
        self.importance = importance
        if importance is not None:
            self.importance = finite_array("importance", importance, (self.n_features,))
            check(self.importance.min() >= 0, "importance", ">= 0", self.importance.min())

    def batch(self, rng, batch_size):
        """One batch of examples and right answers, x (B, n) and y (B, n)."""
        x = self.sample(rng, batch_size)
        return x, relu(x @ self.A.T + self.v)


class CopyTask(Task):
    """Give every feature back: A = I and v = 0. `sample` must not return negative features."""

    def __init__(self, n_features, sample, importance=None):
        super().__init__(np.eye(n_features), np.zeros(n_features), sample, importance)

    def batch(self, rng, batch_size):
        """x and y, the same array: relu(x @ I + 0) is x, and the product would cost n^2."""
        x = self.sample(rng, batch_size)
        return x, x


def identity_task(n_features, density, importance=None):
    """The task of Toy Models of Superposition: give independent sparse features back."""
    check(n_features >= 1, "n_features", "at least 1", n_features)
    sample = partial(sparse_features, n_features=n_features, density=density)
    return CopyTask(n_features, sample, importance)


def block_task(n_features=128, n_blocks=8, weight_density=0.1, density=0.3, bias=-0.1, seed=0):
    """A random circuit inside each block of features, none between blocks (the note's hard case).

    An entry of A within a block is kept with probability `weight_density`, and is then uniform on
    [0, 1]; v is `bias` everywhere. The seed fixes A. Raises ValueError for sizes below 1, densities
    outside (0, 1], or blocks that do not divide the features.
    """
    check(n_features >= 1, "n_features", "at least 1", n_features)
    check(n_blocks >= 1 and n_features % n_blocks == 0, "n_blocks", f"a divisor of {n_features}",
          n_blocks)
    check(0 < weight_density <= 1, "weight_density", "in (0, 1]", weight_density)
    block = np.arange(n_features) * n_blocks // n_features  # (n,): which block each feature is in
    entries = sparse_features(np.random.default_rng(seed), n_features, n_features, weight_density)
    A = entries * (block[:, None] == block)
    sample = partial(sparse_features, n_features=n_features, density=density)
    return Task(A, np.full(n_features, bias, np.float32), sample)


def correlated_task(set_size=100, n_active=2):
    """The task of the note's Appendix 3: give `correlated_features` back."""
    sample = partial(correlated_features, set_size=set_size, n_active=n_active)
    return CopyTask(2 * set_size, sample)


# --- Four models: forward and backward side by side -----------------------------------------------


class Model:
    """What the four models share: bias, relu, loss and g. Each adds what is its own:

    product(x)              -> x @ U.T (B, n), and `saved`: what the backward pass will want again
    gradients(g, x, saved)  -> dict name -> gradient, for all parameters but b

    A model copies the arrays it is given, and computes in the dtype of the first of them.
    """

    parameter_names = ()

    @property
    def parameters(self):
        """dict name -> array: what training updates, in place."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def regulariser(self):
        """What is added to the squared error; 0 unless a model says otherwise."""
        return 0.0

    def as_arrays(self, x, y, importance):
        """All three in this model's dtype, of the right shapes; no importance is the number 1."""
        n, dtype = len(self.b), self.b.dtype
        x = shaped_array("x", x, (None, n), dtype)
        y = shaped_array("y", y, (len(x), n), dtype)
        if importance is None:
            return x, y, 1.0
        return x, y, finite_array("importance", importance, (n,), dtype)

    def finite_loss(self, loss, x, y):
        """`loss` as a number. If it is not finite because x or y is not: ValueError."""
        if not np.isfinite(loss):  # look only now: checking every batch would slow training down
            finite_array("x", x, x.shape)
            finite_array("y", y, y.shape)
        return loss.item()

    def forward(self, x):
        """x (B, n) -> y_hat (B, n). Raises ValueError for a wrong shape or entries not finite."""
        x = finite_array("x", x, (None, len(self.b)), self.b.dtype)
        return relu(self.product(x)[0] + self.b)

    def loss(self, x, y, importance=None):
        """mean_b sum_i importance_i (y_hat_bi - y_bi)^2 + regulariser, as the formula has it.

        Returns a float (complex if parameters are, which is how gradients are checked).
        Raises ValueError for shapes that do not fit, empty batches and entries not finite.
        """
        x, y, importance = self.as_arrays(x, y, importance)
        error = relu(self.product(x)[0] + self.b) - y
        loss = np.mean(np.sum(importance * error**2, axis=1)) + self.regulariser()
        return self.finite_loss(loss, x, y)

    def loss_and_gradients(self, x, y, importance=None):
        """The same loss, and its gradient: a dict with the keys and shapes of `parameters`.

        Raises ValueError as `loss` does.
        """
        x, y, importance = self.as_arrays(x, y, importance)
        z, saved = self.product(x)
        z += self.b                                # (B, n)
        gate = z > 0                               # (B, n)
        error = z * gate                           # (B, n), y_hat
        error -= y                                 # (B, n), y_hat - y
        g = (2 / len(x) * importance) * error      # (B, n), dL/dy_hat
        squared_error = 0.5 * np.vdot(error, g)    # error times half its slope, summed over all
        g *= gate                                  # (B, n), dL/dz
        loss = self.finite_loss(squared_error + self.regulariser(), x, y)
        db = np.ones(len(x), g.dtype) @ g             # (B,) @ (B, n) -> (n,), a fast sum over b
        return loss, {"b": db, **self.gradients(g, x, saved)}


class TiedModel(Model):
    """z = x @ W.T @ W + b with W (m, n), b (n,): one matrix both stores and reads a feature."""

    parameter_names = ("W", "b")

    def __init__(self, W, b):
        self.W = finite_array("W", W, (None, None)).copy()
        self.b = finite_array("b", b, (self.W.shape[1],), self.W.dtype).copy()

    @classmethod
    def initialise(cls, rng, n_features, n_residual, scale=None, dtype=np.float32):
        """Normal weights of standard deviation `scale`, sqrt(2 / (n + m)) by default; b = 0.

        Raises ValueError for sizes below 1 or a scale that is not positive.
        """
        scale = (2 / max(n_features + n_residual, 1))**0.5 if scale is None else scale
        return cls(normal_weights(rng, n_residual, n_features, scale, dtype), np.zeros(n_features))

    def virtual_weights(self):
        """U = W.T @ W (n, n), symmetric and of rank <= m."""
        return self.W.T @ self.W

    def product(self, x):
        h = x @ self.W.T       # (B, n) @ (n, m) -> (B, m)
        return h @ self.W, h   # (B, m) @ (m, n) -> (B, n)

    def gradients(self, g, x, h):
        decoder = h.T @ g      # W @ dU.T = (x @ W.T).T @ g:  (m, B) @ (B, n) -> (m, n)
        dh = g @ self.W.T      # (B, n) @ (n, m) -> (B, m)
        encoder = dh.T @ x     # W @ dU = (g @ W.T).T @ x:    (m, B) @ (B, n) -> (m, n)
        return {"W": encoder + decoder}


class UntiedModel(Model):
    """z = x @ W_down.T @ W_up.T + b with W_down (m, n), W_up (n, m), b (n,)."""

    parameter_names = ("W_down", "W_up", "b")

    def __init__(self, W_down, W_up, b):
        self.W_down = finite_array("W_down", W_down, (None, None)).copy()
        m, n = self.W_down.shape
        self.W_up = finite_array("W_up", W_up, (n, m), self.W_down.dtype).copy()
        self.b = finite_array("b", b, (n,), self.W_down.dtype).copy()

    @classmethod
    def initialise(cls, rng, n_features, n_residual, scale=None, dtype=np.float32):
        """Normal weights of standard deviation `scale`, 1 / sqrt(m) by default; b = 0.

        Raises ValueError for sizes below 1 or a scale that is not positive.
        """
        scale = max(n_residual, 1)**-0.5 if scale is None else scale
        W_down = normal_weights(rng, n_residual, n_features, scale, dtype)
        W_up = normal_weights(rng, n_features, n_residual, scale, dtype)
        return cls(W_down, W_up, np.zeros(n_features))

    def virtual_weights(self):
        """U = W_up @ W_down (n, n), of rank <= m."""
        return self.W_up @ self.W_down

    def product(self, x):
        h = x @ self.W_down.T       # (B, n) @ (n, m) -> (B, m)
        return h @ self.W_up.T, h   # (B, m) @ (m, n) -> (B, n)

    def gradients(self, g, x, h):
        dW_up = g.T @ h             # dU @ W_down.T:  (n, B) @ (B, m) -> (n, m)
        dh = g @ self.W_up          # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x          # W_up.T @ dU:    (m, B) @ (B, n) -> (m, n)
        return {"W_down": dW_down, "W_up": dW_up}


class LiftedModel(Model):
    """z = x @ U.T + b with every entry of U (n, n) free: no feature has to share a direction.

    Adds l1 * sum|U| to the loss, with l1 >= 0.
    """

    parameter_names = ("U", "b")

    def __init__(self, U, b, l1=0.0):
        check(l1 >= 0, "l1", ">= 0", l1)
        self.U = square_array("U", U).copy()
        self.b = finite_array("b", b, (len(self.U),), self.U.dtype).copy()
        self.l1 = l1

    def virtual_weights(self):
        """U (n, n) itself, as a copy."""
        return self.U.copy()

    def regulariser(self):
        """l1 * sum|U|, with |U| written as U sign(U) so that complex steps pass through it."""
        return self.l1 * np.sum(self.U * np.sign(self.U.real))

    def product(self, x):
        return x @ self.U.T, None   # (B, n) @ (n, n) -> (B, n)

    def gradients(self, g, x, _):
        dU = g.T @ x                # (n, B) @ (B, n) -> (n, n)
        return {"U": dU + self.l1 * np.sign(self.U)}


class MaskedModel(Model):
    """z = x @ (U * s).T + b, with s = sigmoid(logits) in [0, 1], one mask entry per weight.

    Here U (n, n) is the fixed V of the derivation; logits (n, n) and b (n,) are trained. Adds
    penalty * sum s to the loss, with penalty >= 0.
    """

    parameter_names = ("logits", "b")

    def __init__(self, U, b, logits, penalty=0.0):
        check(penalty >= 0, "penalty", ">= 0", penalty)
        self.U = square_array("U", U).copy()
        self.b = finite_array("b", b, (len(self.U),), self.U.dtype).copy()
        self.logits = finite_array("logits", logits, self.U.shape, self.U.dtype).copy()
        self.penalty = penalty

    def mask(self):
        """s = sigmoid(logits) (n, n) = 1 / (1 + exp(-logits)), in a form that cannot overflow."""
        return 0.5 * (1 + np.tanh(0.5 * self.logits))

    def virtual_weights(self):
        """U * s (n, n): the weights that act."""
        return self.U * self.mask()

    def regulariser(self):
        """penalty * sum s: the price of keeping weights."""
        return self.penalty * np.sum(self.mask())

    def product(self, x):
        s = self.mask()                          # (n, n)
        return x @ (self.U * s).T, s             # (B, n) @ (n, n) -> (B, n)

    def gradients(self, g, x, s):
        ds = (g.T @ x) * self.U + self.penalty   # dL/d(U * s) times U, (n, n)
        return {"logits": ds * s * (1 - s)}      # (n, n)


def normal_weights(rng, rows, columns, scale, dtype):
    """(rows, columns) normal numbers, drawn in float64 so that all dtypes start (nearly) alike."""
    check(min(rows, columns) >= 1, "n_features and n_residual", "at least 1", (rows, columns))
    check(scale > 0, "scale", "positive", scale)
    return rng.normal(0.0, scale, (rows, columns)).astype(dtype)


# --- Training, and the check of every gradient ----------------------------------------------------


class Adam:
    """Adam (Kingma and Ba 2015): steps of about `learning_rate`, whatever a gradient's size.

    mean   <- beta1 mean   + (1 - beta1) gradient          = mean   + (1 - beta1) (gradient - mean)
    square <- beta2 square + (1 - beta2) gradient^2        likewise
    p      <- p - learning_rate mean_hat / (sqrt(square_hat) + epsilon)

    with mean_hat = mean / (1 - beta1^t) and likewise square_hat: both averages start at 0, and this
    makes up for it. Raises ValueError for a learning rate that is not positive.
    """

    def __init__(self, parameters, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
        check(0 < learning_rate < math.inf, "learning_rate", "positive", learning_rate)
        self.parameters, self.learning_rate = parameters, learning_rate
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.mean = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.square = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.t = 0

    def step(self, gradients, learning_rate=None):
        """Update every parameter in place; `learning_rate` overrides the default for this step."""
        learning_rate = self.learning_rate if learning_rate is None else learning_rate
        self.t += 1
        for name, p in self.parameters.items():
            gradient, mean, square = gradients[name], self.mean[name], self.square[name]
            check(gradient.shape == p.shape, "each gradient", "shaped like its parameter",
                  gradient.shape)
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient**2 - square)
            square_hat = square / (1 - self.beta2**self.t)
            rate = learning_rate / (1 - self.beta1**self.t)  # mean_hat is in here
            p -= rate * mean / (np.sqrt(square_hat) + self.epsilon)


SCHEDULES = {  # share of the learning rate that is left when a fraction of training is over
    "constant": lambda fraction: 1.0,
    "cosine": lambda fraction: 0.5 * (1 + math.cos(math.pi * fraction)),
}


class History(NamedTuple):
    """What `train` returns: losses (steps,), each before its update, and snapshots by step."""

    losses: np.ndarray
    snapshots: dict


def train(model, task, steps, batch_size=1024, learning_rate=1e-3, seed=0, schedule="constant",
          snapshots=(), progress=None):
    """Train `model` in place on fresh batches of `task` with Adam; returns a History.

    snapshots: numbers of updates, 0 to `steps`, after which a copy of the parameters is kept.
    progress: called as progress(updates done, steps) after each update.
    seed: of the data. Batches come from a stream spawned from it, so that a model initialised with
    np.random.default_rng(seed) shares no random numbers with its data.

    Raises ValueError for bad arguments, FloatingPointError as soon as the loss is not finite.
    """
    check(steps >= 1, "steps", "at least 1", steps)
    check(schedule in SCHEDULES, "schedule", f"one of {sorted(SCHEDULES)}", repr(schedule))
    snapshots = set(snapshots)
    check(snapshots <= set(range(steps + 1)), "snapshots", f"in 0..{steps}", snapshots)
    rng = np.random.default_rng(seed).spawn(1)[0]
    np.empty(2**24, np.uint8)  # speed only: after freeing so much, glibc keeps memory between steps
    adam = Adam(model.parameters, learning_rate)
    history = History(np.empty(steps), {})
    with np.errstate(all="ignore"):  # a run that diverges says so below, once
        for step in range(steps):
            if step in snapshots:
                history.snapshots[step] = copy.deepcopy(model.parameters)
            x, y = task.batch(rng, batch_size)
            loss, gradients = model.loss_and_gradients(x, y, task.importance)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {step} with learning rate "
                                         f"{learning_rate:g}: try a tenth of it")
            history.losses[step] = loss
            adam.step(gradients, learning_rate * SCHEDULES[schedule](step / steps))
            if progress:
                progress(step + 1, steps)
    if steps in snapshots:
        history.snapshots[steps] = copy.deepcopy(model.parameters)
    return history


def check_gradients(model, x, y, importance=None):
    """Worst relative error of each gradient against complex-step derivatives, in float64.

    L(p + i step) = L(p) + i step L'(p) - step^2 L''(p) / 2 - ... for an analytic L, so that
    L'(p) = Im L(p + i step) / step up to step^2. Nothing is subtracted, so no digits are lost, and
    step = 1e-20 is exact to rounding.

    Returns a dict: name -> largest absolute difference over largest derivative of that parameter.
    At a kink, where z is exactly 0, there is no derivative: check at random nonzero biases.
    """
    twin = copy.copy(model)
    for name, value in model.parameters.items():
        setattr(twin, name, value.astype(np.float64))
    _, gradients = twin.loss_and_gradients(x, y, importance)
    errors = {}
    for name, value in twin.parameters.items():
        derivative = np.empty(value.shape)
        for index in np.ndindex(value.shape):
            stepped = value.astype(np.complex128)
            stepped[index] += 1e-20j
            setattr(twin, name, stepped)
            derivative[index] = twin.loss(x, y, importance).imag / 1e-20
        setattr(twin, name, value)
        worst = np.abs(gradients[name] - derivative).max()
        errors[name] = worst / max(np.abs(derivative).max(), np.finfo(float).tiny)
    return errors


# --- python toymodel.py ---------------------------------------------------------------------------


def demo():
    """Print the gradient check of every model, a trained pentagon, and milliseconds per step."""
    print("Gradients against complex-step derivatives, worst relative error")
    rng = np.random.default_rng(0)
    n, m = 6, 3
    U, b = rng.normal(size=(n, n)), 0.1 * rng.normal(size=n)
    x = sparse_features(rng, 50, n, density=0.5, dtype=np.float64)
    for model in (TiedModel(U[:m], b), UntiedModel(U[:m], U[:, :m], b), LiftedModel(U, b, l1=0.1),
                  MaskedModel(U, b, logits=U.T, penalty=0.1)):
        errors = check_gradients(model, x, x, importance=np.arange(1, n + 1))
        print(f"  {type(model).__name__:12}", "  ".join(f"{k} {e:.1e}" for k, e in errors.items()))

    task = identity_task(5, density=0.05)
    model = TiedModel.initialise(np.random.default_rng(0), 5, n_residual=2)
    train(model, task, steps=3000, learning_rate=1e-2, schedule="cosine")
    angles = np.sort(np.degrees(np.arctan2(model.W[1], model.W[0])))
    print("Pentagon: 5 features in 2 dimensions, density 0.05; degrees between neighbours")
    print("  ", np.diff(angles, append=angles[0] + 360).round(1))

    print("Milliseconds per training step, sampling included (one thread, float32)")
    rng = np.random.default_rng(0)
    simple = TiedModel.initialise(rng, 100, n_residual=20)
    block = UntiedModel.initialise(rng, 128, n_residual=16)
    for name, model, task, batch_size in (("simple", simple, identity_task(100, 0.02), 1024),
                                          ("block", block, block_task(), 256)):
        seconds = []
        for repeat in range(5):
            start = time.perf_counter()
            train(model, task, steps=200, batch_size=batch_size)
            seconds.append(time.perf_counter() - start)
        print(f"  {name:7} {1000 * min(seconds) / 200:.2f}")


if __name__ == "__main__":
    demo()
