"""Toy models of superposition in pure NumPy, with every gradient derived by hand.

A network that must carry n features through m < n dimensions stores them as directions that are not
orthogonal: superposition. Two features disturb each other only when both are active, which is rare
if features are sparse, and a relu removes small disturbances. Below: models, training, tasks.
`interference.py` asks what the weights mean. `python toymodel.py` checks every gradient.

Notation, in every file. Papers write column vectors, h = W x; here each *row* of an array is one
example, so the same product reads h = x @ W.T.

    symbol      shape    meaning
    ----------  -------  --------------------------------------------------------------------------
    n, m, B              n_features, n_residual, batch_size
    x           (B, n)   features: each nonzero with probability `density`, then uniform on [0, 1]
    W_down      (m, n)   into the m shared dimensions (the residual space)
    h           (B, m)   what is there: h = x @ W_down.T
    W_up        (n, m)   out of it
    b           (n,)     bias
    z, y_hat    (B, n)   z = h @ W_up.T + b, and the model's output y_hat = relu(z)
    W           (m, n)   W_down of a tied model, in which W_up is W.T
    U           (n, n)   virtual weights, W_up @ W_down: U[i, j] carries source j to target i
    A, v        (n, n)   the task's circuit, and its bias (n,): right answers are y = relu(A x + v)
    importance  (n,)     how much each target counts in the loss (all ones unless said)
    q           (n,)     q_i: how often gate i is open, z_i > 0
    P           (n, n)   projection on the span of U's rows: what the m dimensions can carry
    dL          (n, n)   by how much the loss rises if one weight is set to 0: positive if it helps

The loss is a mean over the batch and a sum over the targets (two models add a regulariser):

    L = 1/B sum_b sum_i importance_i (y_hat_bi - y_bi)^2

One derivation serves all four models. Each computes z_bi = sum_j U_ij x_bj + b_i; they differ only
in what U is made of. The chain rule, from the loss backwards (gate: 1 where z > 0, so that the relu
lets it through, else 0):

    error_bi = y_hat_bi - y_bi                            error = y_hat - y
    g_bi = dL/dz_bi                                       g = 2 / B * importance * error * gate
    dL/db_i  = sum_b g_bi                                 db = g.sum(axis=0)
    dL/dU_ij = sum_b g_bi x_bj                            dU = g.T @ x    (dU is short for dL/dU)

and one more step leads from dU to what a model really trains:

    untied   U = W_up @ W_down      dW_down = W_up.T @ dU,   dW_up = dU @ W_down.T
    tied     the same, with W_down = W, W_up = W.T:  dW = dW_down + dW_up.T = W @ dU + W @ dU.T
    lifted   U itself               dU + l1 sign(U), with the regulariser l1 sum|U|
    masked   U = V * s              dlogits = (dU * V + penalty) * s * (1 - s): V is fixed, and
                                    s = sigmoid(logits), s' = s (1 - s), regulariser penalty sum s

Products may be bracketed either way: dW_up = (g.T @ x) @ W_down.T = g.T @ (x @ W_down.T) = g.T @ h.
So tied and untied models never form dU: g.T @ x takes B n^2 multiplications, g.T @ h only B n m.

Sources: Toy Models of Superposition (Elhage et al. 2022); A Toy Model of Interference Weights
(Olah, Turner, Conerly 2025; "the note") for the lifted and the masked model.
"""
import os

# BLAS reads these when NumPy loads. For matrices this small, one thread is the fastest.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import copy
import math
from functools import partial
from types import SimpleNamespace

import numpy as np

# Freeing one large block tells glibc to keep what is freed: on Linux it halves the time of a step.
np.empty(2**24, np.uint8)

# --- Four models: forward and backward side by side -----------------------------------------------
# (`arrays("U nn, x Bn", U, x)` checks that U is n x n and x is B x n: see the end of the file.)


def relu(z):
    """max(z, 0), elementwise; but -inf gives nan (-inf * 0), so that no overflow hides."""
    return z * (z > 0)


def squared_error(z, y, importance):
    """The loss L of y_hat = relu(z), and g = dL/dz (B, n). z, y (B, n), importance (n,) >= 0."""
    B, gate = len(z), (z > 0).astype(z.dtype)       # (B, n)
    error = gate * z - y                            # (B, n), relu(z) - y
    weighted = importance * error                   # (B, n)
    L = np.vdot(weighted, error) / B                # vdot: the sum of all products
    g = 2 / B * weighted * gate                     # (B, n)
    return float(L), g


class Model:
    """What models share. Each adds `trains`, the names of the arrays that training changes,
    `virtual_weights` and `loss_and_gradients`. Its arrays are copies, all in the first's dtype."""

    @property
    def parameters(self):
        """dict name -> array, the arrays themselves."""
        return {name: getattr(self, name) for name in self.trains}

    def forward(self, x):
        """x (B, n) -> y_hat (B, n). Raises ValueError for a wrong shape or entries not finite."""
        U, b, x = arrays("U nn, b n, x Bn", self.virtual_weights(), self.b, x)
        return relu(x @ U.T + b)            # (B, n) @ (n, n) -> (B, n), the same as through h

    def loss(self, x, y, importance=None):
        """L plus the regulariser, if there is one, a float. As `loss_and_gradients`."""
        return self.loss_and_gradients(x, y, importance)[0]


class TiedModel(Model):
    """y_hat = relu(x @ W.T @ W + b), W (m, n), b (n,): one matrix stores and reads a feature."""

    trains = ("W", "b")

    def __init__(self, W, b):
        self.W, self.b = copy.deepcopy(arrays("W mn, b n", W, b))

    @classmethod
    def initialise(cls, rng, n_features, n_residual, scale=None, dtype=np.float32):
        """Normal W of standard deviation `scale`, by default sqrt(2 / (n + m)) (Glorot); b = 0."""
        require(dtype in (np.float32, np.float64), f"dtype must be float32 or float64, got {dtype}")
        n, m = n_features, n_residual
        scale = (2 / (n + m))**0.5 if scale is None else scale
        return cls(rng.normal(0, scale, (m, n)).astype(dtype), np.zeros(n))

    def virtual_weights(self):
        """U = W.T @ W (n, n), symmetric and of rank <= m."""
        return self.W.T @ self.W

    def loss_and_gradients(self, x, y, importance=None):
        """L, a float, and a dict with the gradient of each of `parameters`. x, y (B, n), importance
        (n,) or None: ones. Raises ValueError for shapes that do not fit."""
        W, b, x, y, importance = arrays("W mn, b n, x Bn, y Bn, importance n?",
                                        self.W, self.b, x, y, importance)
        h = x @ W.T                         # (B, n) @ (n, m) -> (B, m)
        z = h @ W + b                       # (B, m) @ (m, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        db = g.sum(axis=0)                  # (B, n) -> (n,)
        dW_up_T = h.T @ g                   # dW_up.T = W @ dU.T: (m, B) @ (B, n) -> (m, n)
        dh = g @ W.T                        # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x                  # W @ dU: (m, B) @ (B, n) -> (m, n)
        return L, {"W": dW_down + dW_up_T, "b": db}


class UntiedModel(Model):
    """y_hat = relu(x @ W_down.T @ W_up.T + b), with W_down (m, n), W_up (n, m), b (n,)."""

    trains = ("W_down", "W_up", "b")

    def __init__(self, W_down, W_up, b):
        self.W_down, self.W_up, self.b = copy.deepcopy(
            arrays("W_down mn, W_up nm, b n", W_down, W_up, b))

    @classmethod
    def initialise(cls, rng, n_features, n_residual, scale=None, dtype=np.float32):
        """Normal weights, b = 0. scale: one number or two, by default 1 / sqrt(numbers read), so
        n^-1/2 for W_down and m^-1/2 for W_up."""
        require(dtype in (np.float32, np.float64), f"dtype must be float32 or float64, got {dtype}")
        n, m = n_features, n_residual
        down, up = np.broadcast_to((n**-0.5, m**-0.5) if scale is None else scale, 2)
        W_down = rng.normal(0, down, (m, n)).astype(dtype)
        return cls(W_down, rng.normal(0, up, (n, m)), np.zeros(n))

    def virtual_weights(self):
        """U = W_up @ W_down (n, n), of rank <= m."""
        return self.W_up @ self.W_down

    def loss_and_gradients(self, x, y, importance=None):
        """L and a dict of gradients, as in `TiedModel`."""
        W_down, W_up, b, x, y, importance = arrays(
            "W_down mn, W_up nm, b n, x Bn, y Bn, importance n?",
            self.W_down, self.W_up, self.b, x, y, importance)
        h = x @ W_down.T                    # (B, n) @ (n, m) -> (B, m)
        z = h @ W_up.T + b                  # (B, m) @ (m, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        db = g.sum(axis=0)                  # (B, n) -> (n,)
        dW_up = g.T @ h                     # dU @ W_down.T:  (n, B) @ (B, m) -> (n, m)
        dh = g @ W_up                       # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x                  # W_up.T @ dU:    (m, B) @ (B, n) -> (m, n)
        return L, {"W_down": dW_down, "W_up": dW_up, "b": db}


# --- Training -------------------------------------------------------------------------------------

class Adam:
    """Adam (Kingma and Ba 2015): steps of about `learning_rate`, whatever a gradient's size.

    mean   <- mean   + (1 - beta1) (gradient - mean)       a running average
    square <- square + (1 - beta2) (gradient^2 - square)
    p      <- p - learning_rate mean_hat / (sqrt(square_hat) + epsilon)

    with mean_hat = mean / (1 - beta1^t) and likewise square_hat: both averages start at 0, and this
    makes up for it. parameters: dict name -> array, which is changed in place.
    """

    def __init__(self, parameters, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
        require(learning_rate > 0, f"learning_rate must be positive, got {learning_rate}")
        self.parameters, self.learning_rate = parameters, learning_rate
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.mean = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.square = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.t = 0

    def step(self, gradients, learning_rate=None):
        """Update every parameter; `learning_rate`, 0 or more, overrides the default this once."""
        learning_rate = self.learning_rate if learning_rate is None else learning_rate
        require(learning_rate >= 0, f"learning_rate must be 0 or more, got {learning_rate}")
        self.t += 1
        for name, p in self.parameters.items():
            gradient, mean, square = gradients[name], self.mean[name], self.square[name]
            require(gradient.shape == p.shape, f"the gradient of {name} must have its shape")
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient**2 - square)
            mean_hat = mean / (1 - self.beta1**self.t)
            square_hat = square / (1 - self.beta2**self.t)
            p -= learning_rate * mean_hat / (np.sqrt(square_hat) + self.epsilon)


def train(model, task, steps, batch_size=1024, learning_rate=1e-3, seed=0, schedule="constant",
          snapshots=(), only=None, progress=None):
    """Train `model` in place on fresh batches of `task` with Adam.

    seed: of the data, which share no random number with a model initialised with the same seed.
    schedule: of the learning rate, "constant" or falling to 0 along a "cosine". snapshots: after
    how many updates to keep a copy of all parameters. only: names of those to train (None: all).
    progress: called as progress(updates done, steps) after each update.

    Returns .losses (steps,), each before its update, and .snapshots, dicts of parameters by step.
    Raises FloatingPointError as soon as the loss is not finite.
    """
    require(schedule in ("constant", "cosine"), f"no schedule {schedule!r}: constant or cosine")
    require(set(snapshots) <= set(range(steps + 1)), f"snapshots must be in 0..{steps}")
    rng = generator(seed).spawn(1)[0]       # a child's stream is not that of default_rng(seed)
    parameters = model.parameters
    trained = parameters if only is None else {name: parameters[name] for name in only}
    adam = Adam(trained, learning_rate)
    history = SimpleNamespace(losses=np.empty(steps), snapshots={})
    for step in range(steps):
        if step in snapshots:
            history.snapshots[step] = copy.deepcopy(parameters)
        x, y = task.batch(rng, batch_size)
        history.losses[step], gradients = model.loss_and_gradients(x, y, task.importance)
        if not np.isfinite(history.losses[step]):
            raise FloatingPointError(f"no finite loss at step {step}: try a lower learning_rate")
        fraction = 0.5 * (1 + math.cos(math.pi * step / steps)) if schedule == "cosine" else 1.0
        adam.step(gradients, learning_rate * fraction)
        if progress:
            progress(step + 1, steps)
    if steps in snapshots:
        history.snapshots[steps] = copy.deepcopy(parameters)
    return history


def check_gradients(model, x, y, importance=None):
    """dict name -> largest error of that gradient over its largest entry, by central differences.

    (L(p + d) - L(p - d)) / (2 d) = L'(p) + d^2 L'''(p) / 6 + ..., in float64; rounding adds about
    1e-10 L. Where z is exactly 0 there is no derivative: check at random, nonzero biases.
    """
    model, d, errors = copy.deepcopy(model), 1e-6, {}
    for name, p in model.parameters.items():
        setattr(model, name, p.astype(np.float64))
    _, gradients = model.loss_and_gradients(x, y, importance)
    for name, p in model.parameters.items():
        derivative = np.empty(p.shape)
        for index, value in np.ndenumerate(p):
            p[index] = value + d
            above = model.loss(x, y, importance)
            p[index] = value - d
            below = model.loss(x, y, importance)
            p[index] = value
            derivative[index] = (above - below) / (2 * d)
        worst = np.abs(gradients[name] - derivative).max()
        errors[name] = float(worst / np.abs(derivative).max())
    return errors


# --- Data: sparse features, and tasks with a known circuit ----------------------------------------

def sparse_features(rng, batch_size, n_features, density, dtype=np.float32):
    """Independent features x (B, n): nonzero with probability `density`, then uniform on [0, 1].
    As rng.random(shape) * (rng.random(shape) < density), but ten times faster at density 0.02."""
    require(0 < density <= 1, f"density must be in (0, 1], got {density}")
    size = batch_size * n_features
    count = rng.binomial(size, density)     # so many are active: draw only their places and values
    x = np.zeros(size, dtype)
    x[rng.choice(size, count, replace=False, shuffle=False)] = rng.random(count, dtype)
    return x.reshape(batch_size, n_features)


def scattered(rng, first, size, count, n, dtype):
    """x (B, n): in each row `count` of the `size` places from `first` (B, 1) on, any choice equally
    likely, are uniform on (0, 1]; all other places are 0."""
    require(0 < count <= size, f"cannot choose {count} of {size}")
    places = first + rng.random((len(first), size)).argsort(axis=1)[:, :count]      # (B, count)
    x = np.zeros((len(first), n), dtype)
    np.put_along_axis(x, places, 1 - rng.random(places.shape, dtype), axis=1)       # never 0
    return x


def correlated_features(rng, batch_size, set_size, n_active=2, dtype=np.float32):
    """Two sets of features that are never active together (Appendix 3 of the note): in each example
    a fair coin picks one set, and `n_active` of its features are active. x (B, 2 set_size)."""
    first = set_size * rng.integers(0, 2, (batch_size, 1))
    return scattered(rng, first, set_size, n_active, 2 * set_size, dtype)


class Task:
    """A circuit A (n, n), v (n,) and what it is fed: x (B, n) = sample(rng, batch_size). Right
    answers are y = relu(x @ A.T + v). importance (n,) >= 0, or None: ones."""

    def __init__(self, A, v, sample, importance=None):
        self.A, self.v, self.importance = copy.deepcopy(
            arrays("A nn, v n, importance n?", A, v, importance))
        self.sample = sample

    def answers(self, x):
        """x (B, n) -> y (B, n), the right answers."""
        return relu(x @ self.A.T + self.v)

    def batch(self, rng, batch_size):
        """One batch of examples and right answers, x (B, n) and y (B, n)."""
        x = self.sample(rng, batch_size)
        return x, self.answers(x)


class IdentityTask(Task):
    """Give x back: A = I, v = 0. For features that are never negative, as relu(x) is x then."""

    def answers(self, x):
        return x                            # the product with I would cost n^2 for each example


def identity_task(n_features, density, importance=None):
    """The task of Toy Models of Superposition: give independent sparse features back."""
    sample = partial(sparse_features, n_features=n_features, density=density)
    return IdentityTask(np.eye(n_features), np.zeros(n_features), sample, importance)


def block_task(n_features=128, n_blocks=8, weight_density=0.1, density=0.3, bias=-0.1, seed=0,
               n_sources=None):
    """A random circuit inside each block of features, none between blocks (the note's hard case).

    In a block each entry of A is kept with probability `weight_density`, or `n_sources` of each row
    are; what is kept is uniform on [0, 1]. v is `bias` everywhere. The seed fixes A.
    """
    n = n_features
    require(n_blocks > 0 and n % n_blocks == 0, f"n_blocks must divide {n}, got {n_blocks}")
    require(0 < weight_density <= 1, f"weight_density must be in (0, 1], got {weight_density}")
    rng, size = generator(seed), n // n_blocks
    first = np.arange(n)[:, None] // size * size       # (n, 1): where each target's block begins
    if n_sources is None:
        u = rng.random((n, n), np.float32)             # u, where kept, is uniform below the density
        A = np.where(u < weight_density, u / weight_density, 0) * (first == first.T)
    else:
        A = scattered(rng, first, size, n_sources, n, np.float32)
    return Task(A, np.full(n, bias), partial(sparse_features, n_features=n, density=density))


def correlated_task(set_size=100, n_active=2):
    """The task of the note's Appendix 3: give `correlated_features` back."""
    sample = partial(correlated_features, set_size=set_size, n_active=n_active)
    return IdentityTask(np.eye(2 * set_size), np.zeros(2 * set_size), sample)


# --- Two models without a bottleneck, used in interference.py -------------------------------------

class LiftedModel(Model):
    """y_hat = relu(x @ U.T + b) with all of U (n, n) free; adds l1 * sum|U| >= 0 to the loss."""

    trains = ("U", "b")

    def __init__(self, U, b, l1=0.0):
        require(l1 >= 0, f"l1 must be 0 or more, got {l1}")
        self.U, self.b = copy.deepcopy(arrays("U nn, b n", U, b))
        self.l1 = l1

    def virtual_weights(self):
        """U (n, n) itself, as a copy."""
        return self.U.copy()

    def loss_and_gradients(self, x, y, importance=None):
        """L plus l1 * sum|U|, and a dict of gradients, as in `TiedModel`."""
        U, b, x, y, importance = arrays("U nn, b n, x Bn, y Bn, importance n?",
                                        self.U, self.b, x, y, importance)
        z = x @ U.T + b                     # (B, n) @ (n, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        dU = g.T @ x + self.l1 * np.sign(U)     # (n, B) @ (B, n) -> (n, n)
        return L + float(self.l1 * np.abs(U).sum()), {"U": dU, "b": g.sum(axis=0)}


class MaskedModel(Model):
    """y_hat = relu(x @ (V * s).T + b): each of the fixed weights V (n, n) has a switch in [0, 1],
    s = sigmoid(logits). Adds penalty * sum s >= 0 to the loss."""

    trains = ("logits", "b")

    def __init__(self, V, b, logits, penalty=0.0):
        require(penalty >= 0, f"penalty must be 0 or more, got {penalty}")
        self.V, self.b, self.logits = copy.deepcopy(arrays("V nn, b n, logits nn", V, b, logits))
        self.penalty = penalty

    def mask(self):
        """s = 1 / (1 + exp(-logits)) (n, n), in a form that cannot overflow."""
        return 0.5 * (1 + np.tanh(0.5 * self.logits))

    def virtual_weights(self):
        """U = V * s (n, n): the weights that act."""
        return self.V * self.mask()

    def loss_and_gradients(self, x, y, importance=None):
        """L plus penalty * sum s, and a dict of gradients, as in `TiedModel`."""
        s = self.mask()
        L, gradients = LiftedModel(self.V * s, self.b).loss_and_gradients(x, y, importance)
        dlogits = (gradients["U"] * self.V + self.penalty) * s * (1 - s)
        return L + float(self.penalty * s.sum()), {"logits": dlogits, "b": gradients["b"]}


# --- What public functions check of their arguments -----------------------------------------------

def require(condition, sentence):
    """ValueError with this sentence unless the condition holds."""
    if not condition:
        raise ValueError(sentence)


def arrays(shapes, *values, dtype=None):
    """Arrays of finite numbers of these shapes: arrays("U nn, b n, x Bn", U, b, x) -> [U, b, x].

    A letter is one size throughout: here U is square, and b and x fit it; "*" is any shape. "n?":
    not negative, and None stands for ones. All get the dtype given, else float32 if the first is,
    else float64; only what that changes is copied. Raises TypeError (no real numbers), ValueError.
    """
    found, sizes = [], {}
    for words, value in zip(shapes.split(", "), values):
        name, shape = words.rstrip("?").split()
        if value is None and "?" in words:
            value = np.ones(sizes["n"], dtype)
        parts = value if isinstance(value, (list, tuple)) else [value]
        try:
            array = np.asarray(value)
            if array.dtype.kind not in "biuf" or np.ma.MaskedArray in map(type, parts):
                raise TypeError(f"{type(value).__name__} of {array.dtype}, or masked")
        except Exception as error:
            raise TypeError(f"{name} must be an array of real numbers, got {error}") from None
        dtype = dtype or (np.float32 if array.dtype == np.float32 else np.float64)
        array = array.astype(dtype, copy=False)
        here = ", ".join(str(sizes.get(letter, letter)) for letter in shape)
        sizes = dict(zip(shape, array.shape)) | sizes           # a size once known stays
        fits = shape == "*" or array.shape == tuple(sizes.get(letter) for letter in shape)
        require(array.size and fits, f"{name} must have shape ({', '.join(shape)}), here ({here}), "
                                     f"got {array.shape}")
        require(np.isfinite(array).all(), f"{name} must be finite, got NaN or infinite entries")
        require("?" not in words or array.min() >= 0, f"{name} must not be negative")
        found.append(array)
    return found


def generator(seed):
    """np.random.default_rng of a whole number >= 0 or a tuple of them, and of nothing else."""
    parts = seed if isinstance(seed, tuple) and seed else (seed,)
    whole = all(isinstance(part, (int, np.integer)) and type(part) is not bool for part in parts)
    require(whole and min(parts) >= 0, f"seed must be a whole number >= 0, got {seed!r}")
    return np.random.default_rng(seed)


# --- python toymodel.py ---------------------------------------------------------------------------

def demo():
    """Print the gradient check of every model."""
    print("Gradients against central differences, worst relative error")
    rng, n, m = np.random.default_rng(0), 6, 3
    U, b = rng.normal(size=(n, n)), 0.1 * rng.normal(size=n)
    x = sparse_features(rng, 50, n, density=0.5, dtype=np.float64)
    for model in (TiedModel(U[:m], b), UntiedModel(U[:m], U[:, :m], b), LiftedModel(U, b, l1=0.1),
                  MaskedModel(U, b, logits=U.T, penalty=0.1)):
        errors = check_gradients(model, x, x, importance=np.arange(1, n + 1))
        print(f"  {type(model).__name__:12}", "  ".join(f"{k} {e:.0e}" for k, e in errors.items()))

if __name__ == "__main__":
    demo()
