"""Toy models of superposition in pure NumPy, with every gradient derived by hand.

A network that must carry n features through m < n dimensions stores them as directions that are not
orthogonal: superposition. Two features that share a direction disturb each other only when both are
active, which is rare if features are sparse, and a relu removes small disturbances. This file holds
what it takes to watch that happen: features, tasks, four models, their gradients, Adam, training.
What the resulting weights mean is the subject of `interference.py`. Run it (`python toymodel.py`,
a few seconds) to see gradients checked, a pentagon trained and the cost of a training step.

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

    error_bi = y_hat_bi - y_bi                            error = y_hat - y
    g_bi = dL/dz_bi                                       g = 2 / B * importance * error * gate
    dL/db_i  = sum_b g_bi                                 db = g.sum(axis=0)
    dL/dU_ij = sum_b g_bi x_bj                            dU = g.T @ x

and one more step leads from dU to what a model really trains:

    lifted   U itself               dU + l1 sign(U), with the regulariser l1 sum|U|
    masked   U = V * s              dlogits = (dU * V + penalty) * s * (1 - s): V is fixed, and
                                    s = sigmoid(logits), s' = s (1 - s), regulariser penalty sum s
    untied   U = W_up @ W_down      dW_down = W_up.T @ dU,   dW_up = dU @ W_down.T
    tied     U = W.T @ W            both lines with W_down = W and W_up = W.T: W is used twice, so
                                    dW = dW_down + dW_up.T = W @ dU + W @ dU.T

A matrix product may be bracketed either way, so tied and untied models never form dU. For example
dW_up = (g.T @ x) @ W_down.T = g.T @ (x @ W_down.T) = g.T @ h: the first bracketing takes more than
B n^2 multiplications, the last B n m, and h is there from the forward pass. The tests compare them.

Sources: Toy Models of Superposition (Elhage et al. 2022) for the models and the features; A Toy
Model of Interference Weights (Olah, Turner, Conerly 2025; "the note") for the other two.
"""
import copy
import math
import numbers
import os
import signal
import sys
import timeit
import warnings
from functools import partial
from types import SimpleNamespace

# BLAS reads these when NumPy loads. Its threads fight over matrices this small: one is several
# times faster than two. The variables are put back at once, so no child process inherits them.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
environment = dict(os.environ)
if "numpy" in sys.modules and "1" not in map(environment.get, ONE_THREAD):
    warnings.warn("NumPy was imported before toymodel, so its BLAS may use several threads, which "
                  "is slower here: import toymodel first, or set OMP_NUM_THREADS=1 beforehand")
os.environ.update(ONE_THREAD)
import numpy as np
os.environ.clear()
os.environ.update(environment)

# --- Data: sparse features, and tasks with a known ideal circuit ----------------------------------


def relu(z):
    """max(z, 0), elementwise. For complex z, which only `check_gradients` uses, z where z.real > 0.

    What is not finite is never hidden: NaN stays NaN, and -inf becomes NaN.
    """
    z = np.asarray(z)
    return z * (z.real > 0)


def sparse_features(rng, batch_size, n_features, density, dtype=np.float32):
    """Independent features: nonzero with probability `density`, then uniform on [0, 1].

    The naive version is rng.random(shape) * (rng.random(shape) < density). Two exact shortcuts:
    at low density, draw how many entries are active (binomial), which (any set of that size is
    equally likely) and only their values; else one uniform u decides both, because u / density
    is uniform on [0, 1] once u < density.

    Returns x (B, n). Raises ValueError for sizes below 1 or a density outside (0, 1].
    """
    check_kind("rng", rng, np.random.Generator)
    density = check_number("density", density, "(0, 1]")
    size = check_whole("batch_size", batch_size) * check_whole("n_features", n_features)
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
    check_kind("rng", rng, np.random.Generator)
    check_whole("batch_size", batch_size)
    check_whole("n_active", n_active, 1, check_whole("set_size", set_size))
    rows = np.arange(batch_size)
    start = set_size * rng.integers(0, 2, batch_size)  # where each example's set begins
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
        self.A = check_square("A", A)
        self.n_features = n = len(self.A)
        self.v = check_array("v", v, (n,))
        check(callable(sample), "sample", "a function", sample, TypeError)
        self.sample = sample
        check_array("sample(rng, 1)", sample(np.random.default_rng(0), 1), (1, n))
        self.importance = importance
        if importance is not None:
            self.importance = check_array("importance", importance, (n,), interval="[0, inf)")

    def batch(self, rng, batch_size):
        """One batch of examples and right answers, x (B, n) and y (B, n)."""
        x = self.sample(rng, batch_size)
        return x, relu(x @ self.A.T + self.v)


class CopyTask(Task):
    """Give every feature back: A = I and v = 0. `sample` must not return negative features."""

    def __init__(self, n_features, sample, importance=None):
        check_whole("n_features", n_features)
        super().__init__(np.eye(n_features), np.zeros(n_features), sample, importance)

    def batch(self, rng, batch_size):
        """x and y, the same array: relu(x @ I + 0) is x, and the product would cost n^2."""
        x = self.sample(rng, batch_size)
        return x, x


def identity_task(n_features, density, importance=None):
    """The task of Toy Models of Superposition: give independent sparse features back."""
    sample = partial(sparse_features, n_features=n_features, density=density)
    return CopyTask(n_features, sample, importance)


def block_task(n_features=128, n_blocks=8, weight_density=0.1, density=0.3, bias=-0.1, seed=0,
               n_sources=None):
    """A random circuit inside each block of features, none between blocks (the note's hard case).

    An entry of A within a block is kept with probability `weight_density`, and is then uniform on
    [0, 1]; with `n_sources`, every target keeps exactly that many of its block instead. v is `bias`
    everywhere. The seed fixes A. Raises ValueError for sizes below 1, densities outside (0, 1],
    blocks that do not divide the features, or more sources than a block has.
    """
    n = check_whole("n_features", n_features)
    check(n % check_whole("n_blocks", n_blocks) == 0, "n_blocks", f"a divisor of {n}", n_blocks)
    check_number("weight_density", weight_density, "(0, 1]")
    check_number("bias", bias, "(-inf, inf)")
    rng, size = generator(seed), n // n_blocks
    first = np.arange(n)[:, None] // size * size       # (n, 1): where each target's block begins
    if n_sources is None:
        A = sparse_features(rng, n, n, weight_density) * (np.arange(n) // size * size == first)
    else:
        check_whole("n_sources", n_sources, 1, size)
        chosen = first + rng.random((n, size)).argsort(axis=1)[:, :n_sources]
        A = np.zeros((n, n), np.float32)
        np.put_along_axis(A, chosen, 1 - rng.random(chosen.shape, np.float32), axis=1)
    sample = partial(sparse_features, n_features=n, density=density)
    return Task(A, np.full(n, bias, np.float32), sample)


def correlated_task(set_size=100, n_active=2):
    """The task of the note's Appendix 3: give `correlated_features` back."""
    check_whole("set_size", set_size)
    sample = partial(correlated_features, set_size=set_size, n_active=n_active)
    return CopyTask(2 * set_size, sample)


# --- Four models: forward and backward side by side -----------------------------------------------


def squares(e):
    """sum_b e_bi^2 (n,) of e (B, n), in one pass over memory."""
    return np.einsum("bi,bi->i", e, e)


def squared_error(error, importance=1.0):
    """L = 1/B sum_i importance_i sum_b error_bi^2 of error = y_hat - y (B, n), a number."""
    return np.sum(importance * squares(error)) / len(error)


class Model:
    """What the four models share: relu, loss and g. Each adds what is its own:

    preactivations(x)       -> z (B, n), and what the backward pass will want again
    gradients(g, x, saved)  -> dict name -> gradient, for all parameters but b

    A model copies the arrays it is given, and computes in the dtype of the first of them: float32
    and float64 are kept, and whole numbers become float64.
    """

    parameter_names = ()

    @property
    def parameters(self):
        """dict name -> array: what training updates, in place."""
        return {name: getattr(self, name) for name in self.parameter_names}

    def regulariser(self):
        """What is added to the squared error; 0 unless a model says otherwise."""
        return 0.0

    def batch(self, x, y, importance):
        """All three checked, in this model's dtype; no importance is the number 1."""
        n, dtype = len(self.b), self.b.dtype
        copied = y is x                                  # as in `CopyTask`: one check will do
        x = check_array("x", x, (None, n), dtype)                        # (B, n)
        y = x if copied else check_array("y", y, x.shape, dtype)         # (B, n)
        if importance is None:
            return x, y, 1.0
        return x, y, check_array("importance", importance, (n,), interval="[0, inf)").astype(dtype)

    def forward(self, x):
        """x (B, n) -> y_hat (B, n). Raises ValueError for a wrong shape or entries not finite."""
        x = check_array("x", x, (None, len(self.b)), self.b.dtype)
        return relu(self.preactivations(x)[0])

    def loss(self, x, y, importance=None):
        """L plus the regulariser, a float (complex if parameters are: `check_gradients`).

        Raises ValueError for shapes that do not fit, empty batches, entries not finite and
        negative importance.
        """
        x, y, importance = self.batch(x, y, importance)
        error = relu(self.preactivations(x)[0]) - y      # (B, n)
        return (squared_error(error, importance) + self.regulariser()).item()

    def loss_and_gradients(self, x, y, importance=None):
        """The same loss, and its gradient: a dict with the keys and shapes of `parameters`.

        Raises ValueError as `loss` does.
        """
        x, y, importance = self.batch(x, y, importance)
        B = len(x)
        z, saved = self.preactivations(x)                # (B, n)
        gate = (z > 0).astype(z.dtype)                   # (B, n), 1[z > 0]
        error = gate * z - y                             # (B, n), y_hat - y
        g = 2 / B * importance * error * gate            # (B, n), dL/dz
        db = g.sum(axis=0)                               # (B, n) -> (n,)
        loss = squared_error(error, importance) + self.regulariser()
        return loss.item(), {**self.gradients(g, x, saved), "b": db}


class BottleneckModel(Model):
    """The two models whose features share m dimensions: the small model, "downstairs"."""

    @classmethod
    def initialise(cls, rng, n_features, n_residual, scale=None, dtype=np.float32):
        """Normal weights of standard deviation `scale`, or a scale for each matrix; b = 0.

        Default scale: 1 / sqrt(m) untied, sqrt(2 / (n + m)) tied. Drawn in float64, so that both
        precisions start alike. Raises ValueError for sizes below 1, a scale that is not positive
        and a dtype that is not float32 or float64.
        """
        check_kind("rng", rng, np.random.Generator)
        n, m = check_whole("n_features", n_features), check_whole("n_residual", n_residual)
        check(np.dtype(dtype) in (np.float32, np.float64), "dtype", "float32 or float64", dtype)
        scale = cls.default_scale(n, m) if scale is None else scale
        matrices = cls.parameter_names[:-1]
        scales = scale if np.iterable(scale) else [scale] * len(matrices)
        check(len(scales) == len(matrices), "scale", f"one, or one for each of {matrices}", scale)
        shapes = {"W_down": (m, n), "W_up": (n, m), "W": (m, n)}
        weights = [rng.normal(0.0, check_number("scale", scale, "(0, inf)"), shapes[name])
                   for name, scale in zip(matrices, scales)]
        return cls(*(W.astype(dtype) for W in weights), np.zeros(n))


class UntiedModel(BottleneckModel):
    """z = x @ W_down.T @ W_up.T + b with W_down (m, n), W_up (n, m), b (n,)."""

    parameter_names = ("W_down", "W_up", "b")
    default_scale = staticmethod(lambda n, m: m**-0.5)

    def __init__(self, W_down, W_up, b):
        self.W_down = check_array("W_down", W_down, (None, None)).copy()
        m, n = self.W_down.shape
        self.W_up = check_array("W_up", W_up, (n, m), self.W_down.dtype).copy()
        self.b = check_array("b", b, (n,), self.W_down.dtype).copy()

    def virtual_weights(self):
        """U = W_up @ W_down (n, n), of rank <= m."""
        return self.W_up @ self.W_down

    def preactivations(self, x):
        h = x @ self.W_down.T               # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W_up.T + self.b        # (B, m) @ (m, n) -> (B, n)
        return z, h

    def gradients(self, g, x, h):
        dW_up = g.T @ h                     # dU @ W_down.T:  (n, B) @ (B, m) -> (n, m)
        dh = g @ self.W_up                  # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x                  # W_up.T @ dU:    (m, B) @ (B, n) -> (m, n)
        return {"W_down": dW_down, "W_up": dW_up}


class TiedModel(BottleneckModel):
    """z = x @ W.T @ W + b with W (m, n), b (n,): one matrix both stores and reads a feature."""

    parameter_names = ("W", "b")
    default_scale = staticmethod(lambda n, m: (2 / (n + m))**0.5)

    def __init__(self, W, b):
        self.W = check_array("W", W, (None, None)).copy()
        self.b = check_array("b", b, (self.W.shape[1],), self.W.dtype).copy()

    def virtual_weights(self):
        """U = W.T @ W (n, n), symmetric and of rank <= m."""
        return self.W.T @ self.W

    def preactivations(self, x):
        h = x @ self.W.T                    # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W + self.b             # (B, m) @ (m, n) -> (B, n)
        return z, h

    def gradients(self, g, x, h):
        decoder = h.T @ g                   # dW_up.T = W @ dU.T:  (m, B) @ (B, n) -> (m, n)
        dh = g @ self.W.T                   # (B, n) @ (n, m) -> (B, m)
        encoder = dh.T @ x                  # dW_down = W @ dU:    (m, B) @ (B, n) -> (m, n)
        return {"W": encoder + decoder}


class LiftedModel(Model):
    """z = x @ U.T + b with every entry of U (n, n) free: no feature has to share a direction.

    Adds l1 * sum|U| to the loss, with l1 >= 0.
    """

    parameter_names = ("U", "b")

    def __init__(self, U, b, l1=0.0):
        self.U = check_square("U", U).copy()
        self.b = check_array("b", b, (len(self.U),), self.U.dtype).copy()
        self.l1 = check_number("l1", l1, "[0, inf)")

    def virtual_weights(self):
        """U (n, n) itself, as a copy."""
        return self.U.copy()

    def regulariser(self):
        """l1 * sum|U|, with |U| written as U sign(U) so that complex steps pass through it."""
        return self.l1 * np.sum(self.U * np.sign(self.U.real))

    def preactivations(self, x):
        z = x @ self.U.T + self.b           # (B, n) @ (n, n) -> (B, n)
        return z, None

    def gradients(self, g, x, _):
        dU = g.T @ x                        # (n, B) @ (B, n) -> (n, n)
        return {"U": dU + self.l1 * np.sign(self.U)}


class MaskedModel(Model):
    """z = x @ (V * s).T + b, with s = sigmoid(logits) in [0, 1], one mask entry per weight.

    V (n, n) stays as it is; logits (n, n) and b (n,) are trained. Adds penalty * sum s to the loss,
    with penalty >= 0.
    """

    parameter_names = ("logits", "b")

    def __init__(self, V, b, logits, penalty=0.0):
        self.V = check_square("V", V).copy()
        self.b = check_array("b", b, (len(self.V),), self.V.dtype).copy()
        self.logits = check_array("logits", logits, self.V.shape, self.V.dtype).copy()
        self.penalty = check_number("penalty", penalty, "[0, inf)")

    def mask(self):
        """s = sigmoid(logits) (n, n) = 1 / (1 + exp(-logits)), in a form that cannot overflow."""
        return 0.5 * (1 + np.tanh(0.5 * self.logits))

    def virtual_weights(self):
        """U = V * s (n, n): the weights that act."""
        return self.V * self.mask()

    def regulariser(self):
        """penalty * sum s: the price of keeping weights."""
        return self.penalty * np.sum(self.mask())

    def preactivations(self, x):
        s = self.mask()                     # (n, n)
        z = x @ (self.V * s).T + self.b     # (B, n) @ (n, n) -> (B, n)
        return z, s

    def gradients(self, g, x, s):
        dU = g.T @ x                                             # (n, B) @ (B, n) -> (n, n)
        dlogits = (dU * self.V + self.penalty) * s * (1 - s)     # (n, n)
        return {"logits": dlogits}


# --- Training, and the check of every gradient ----------------------------------------------------


class Adam:
    """Adam (Kingma and Ba 2015): steps of about `learning_rate`, whatever a gradient's size.

    mean   <- beta1 mean   + (1 - beta1) gradient          = mean   + (1 - beta1) (gradient - mean)
    square <- beta2 square + (1 - beta2) gradient^2        likewise
    p      <- p - learning_rate mean_hat / (sqrt(square_hat) + epsilon)

    with mean_hat = mean / (1 - beta1^t) and likewise square_hat: both averages start at 0, and this
    makes up for it. Raises ValueError for learning_rate or epsilon <= 0 and betas outside [0, 1).
    """

    def __init__(self, parameters, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.parameters = parameters
        self.learning_rate = check_number("learning_rate", learning_rate, "(0, inf)")
        self.beta1 = check_number("beta1", beta1, "[0, 1)")
        self.beta2 = check_number("beta2", beta2, "[0, 1)")
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)")
        self.mean = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.square = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.t = 0

    def step(self, gradients, learning_rate=None):
        """Update every parameter in place; `learning_rate` overrides the default for this step."""
        learning_rate = self.learning_rate if learning_rate is None else learning_rate
        check_number("learning_rate", learning_rate, "[0, inf)")
        self.t += 1
        for name, p in self.parameters.items():
            gradient, mean, square = gradients[name], self.mean[name], self.square[name]
            check(gradient.shape == p.shape, f"the gradient of {name}", f"of shape {p.shape}",
                  gradient.shape)
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient**2 - square)
            mean_hat = mean / (1 - self.beta1**self.t)
            square_hat = square / (1 - self.beta2**self.t)
            p -= learning_rate * mean_hat / (np.sqrt(square_hat) + self.epsilon)


def train(model, task, steps, batch_size=1024, learning_rate=1e-3, seed=0, schedule="constant",
          snapshots=(), progress=None):
    """Train `model` in place on fresh batches of `task` with Adam.

    schedule: of the learning rate, "constant" or falling to 0 along a "cosine". snapshots: numbers
    of updates, 0 to `steps`, after which a copy of the parameters is kept. progress: called as
    progress(updates done, steps) after each. seed: of the data, which come from a stream spawned
    from it: a model initialised with np.random.default_rng(seed) shares no random number with it.

    Returns .losses (steps,), each before its update, and .snapshots, dicts of parameters by step.
    Raises ValueError for bad arguments, FloatingPointError as soon as the loss is not finite.
    """
    check_kind("model", model, Model)
    check_kind("task", task, Task)
    check(schedule in ("constant", "cosine"), "schedule", "constant or cosine", schedule)
    check_whole("steps", steps)
    snapshots = check_wholes("snapshots", snapshots, 0, steps)
    rng = generator(seed).spawn(1)[0]
    np.empty(2**24, np.uint8)  # halves the time: once it has freed so much, glibc keeps memory
    adam = Adam(model.parameters, learning_rate)
    history = SimpleNamespace(losses=np.empty(steps), snapshots={})
    with np.errstate(all="ignore"):  # a run that diverges says so by itself, once
        for step in range(steps):
            if step in snapshots:
                history.snapshots[step] = copy.deepcopy(model.parameters)
            x, y = task.batch(rng, batch_size)
            loss, gradients = model.loss_and_gradients(x, y, task.importance)
            stop_if_not_finite(loss, step, learning_rate)
            history.losses[step] = loss
            left = 0.5 * (1 + math.cos(math.pi * step / steps)) if schedule == "cosine" else 1.0
            adam.step(gradients, learning_rate * left)
            if progress:
                progress(step + 1, steps)
    for parameter in model.parameters.values():
        stop_if_not_finite(parameter, steps, learning_rate)
    if steps in snapshots:
        history.snapshots[steps] = copy.deepcopy(model.parameters)
    return history


def stop_if_not_finite(value, step, learning_rate):
    """A loss or a parameter that is infinite or NaN ends training with advice."""
    if not np.isfinite(value).all():
        raise FloatingPointError(f"training diverged at step {step} with learning rate "
                                 f"{learning_rate:g}: try a tenth of it")


def check_gradients(model, x, y, importance=None):
    """Worst relative error of each gradient against complex-step derivatives, in float64.

    L(p + i step) = L(p) + i step L'(p) - step^2 L''(p) / 2 - ... for an analytic L, so that
    L'(p) = Im L(p + i step) / step up to step^2. Nothing is subtracted: no digits are lost.

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
        errors[name] = float(worst / max(np.abs(derivative).max(), np.finfo(float).tiny))
    return errors


# --- What every public function checks at its boundary --------------------------------------------


def check(condition, argument, requirement, value, kind_of_error=ValueError):
    """Raise an error that names the argument, what was required and what came."""
    if not condition:
        raise kind_of_error(f"{argument} must be {requirement}, got {value!s:.80}")


def check_kind(argument, value, kind):
    """TypeError unless `value` is an instance of `kind`."""
    check(isinstance(value, kind), argument, f"a {kind.__name__}",
          value if isinstance(value, type) else type(value).__name__, TypeError)


def check_number(argument, value, interval):
    """`value` as a float if it lies in `interval`, written as in "(0, 1]"."""
    check(isinstance(value, numbers.Real), argument, "a number", value, TypeError)
    low, high = map(float, interval[1:-1].split(","))
    at_an_end = value == low and "[" in interval or value == high and "]" in interval
    check(low < value < high or at_an_end, argument, f"in {interval}", value)
    return float(value)


def check_whole(argument, value, low=1, high=None):
    """`value` as an int if it is a whole number from `low` on, up to `high` if there is one."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    check(whole, argument, "a whole number", value, TypeError)
    check(low <= value and (high is None or value <= high), argument,
          f"at least {low}" if high is None else f"in {low}..{high}", value)
    return int(value)


def check_wholes(argument, values, low, high):
    """`values` as a list of whole numbers from `low` to `high`."""
    check(np.iterable(values), argument, "a list of whole numbers", values, TypeError)
    return [check_whole(argument, value, low, high) for value in values]


def check_array(argument, value, shape, dtype=None, interval=None):
    """`value` as a non-empty array of finite numbers; None in `shape` stands for any length.

    float32 and float64 are kept unless `dtype` is given; whole numbers and booleans become float64.
    Everything else (half precision, complex, masked, text) is refused.
    """
    array = np.asarray(value)
    numeric = array.dtype.kind in "biu" or array.dtype in (np.float32, np.float64)
    if not numeric or np.ma.isMaskedArray(value):
        raise TypeError(f"{argument} must be an array of float32, float64 or whole numbers, got "
                        f"{type(value).__name__} of {array.dtype}")
    fits = array.ndim == len(shape) and all(s in (None, a) for s, a in zip(shape, array.shape))
    check(fits and array.size, argument, f"non-empty and of shape {shape}", array.shape)
    array = array.astype(dtype or (array.dtype if array.dtype.kind == "f" else float), copy=False)
    check(np.isfinite(array).all(), argument, "finite", "NaN or infinite entries")
    for extreme in (array.min(), array.max()) if interval else ():
        check_number(argument, extreme, interval)
    return array


def check_square(argument, value):
    """`value` as a `check_array` of shape (n, n)."""
    array = check_array(argument, value, (None, None))
    return check_array(argument, array, (len(array), len(array)))


def check_booleans(argument, value, shape):
    """`value` as a non-empty array of booleans; None in `shape` stands for any length."""
    array = np.asarray(value)
    check(array.dtype == bool and not np.ma.isMaskedArray(value), argument, "an array of booleans",
          f"{type(value).__name__} of {array.dtype}", TypeError)
    return check_array(argument, array, shape, bool)


def generator(seed):
    """np.random.default_rng(seed), with a message that says what a seed is."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed must be a whole number >= 0, or several, got {seed}") from None


# --- python toymodel.py ---------------------------------------------------------------------------


def demo():
    """Print the gradient check of every model, a trained pentagon, and milliseconds per step."""
    print("Gradients against complex-step derivatives, worst relative error")
    rng = np.random.default_rng(0)
    n, m = 6, 3
    U, b = rng.normal(size=(n, n)), 0.1 * rng.normal(size=n)
    x = sparse_features(rng, 50, n, density=0.5, dtype=np.float64)
    for model in (UntiedModel(U[:m], U[:, :m], b), TiedModel(U[:m], b), LiftedModel(U, b, l1=0.1),
                  MaskedModel(U, b, logits=U.T, penalty=0.1)):
        errors = check_gradients(model, x, x, importance=np.arange(1, n + 1))
        print(f"  {type(model).__name__:12}", "  ".join(f"{k} {e:.1e}" for k, e in errors.items()))

    task = identity_task(5, density=0.05)
    model = TiedModel.initialise(np.random.default_rng(0), 5, n_residual=2)
    train(model, task, steps=3000, learning_rate=1e-2, schedule="cosine")
    angles = np.sort(np.degrees(np.arctan2(model.W[1], model.W[0])))
    print("Pentagon: 5 features in 2 dimensions, density 0.05; degrees between neighbours")
    print("  ", np.diff(angles, append=angles[0] + 360).round(1))

    print("Milliseconds per training step, sampling included (one thread, float32; best of 5)")
    for name, model, task, batch_size in (
            ("simple", TiedModel.initialise(rng, 100, 20), identity_task(100, 0.02), 1024),
            ("block", UntiedModel.initialise(rng, 128, 16), block_task(), 256)):
        seconds = timeit.repeat(lambda: train(model, task, 200, batch_size), number=1, repeat=5)
        print(f"  {name:7} {1000 * min(seconds) / 200:.2f}")


def as_script(main):
    """Run main() and exit with its code; Ctrl-C or an output closed or full end it quietly."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if sys.stdout:
            sys.stdout.reconfigure(errors="backslashreplace")  # a path need not fit the terminal
        code = main()
        print(end="", flush=True)
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains again when it flushes
        code = f"stopped: {error}"
    sys.exit(code)


if __name__ == "__main__":
    as_script(demo)
