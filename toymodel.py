"""Toy models of superposition in pure NumPy, with every gradient derived by hand.

A network that must carry n features through m < n dimensions has to store some of them in
directions that are not orthogonal. This is called superposition. An active feature then disturbs
the outputs of the others. If features are sparse, few are active at once, so disturbances seldom
add up; and a relu, which replaces negative numbers by 0, hides small ones altogether.

This file has the models, their training, and the tasks they are trained on. `interference.py` asks
what the weights of a trained model mean. `python toymodel.py` prints how far every gradient below
is from finite differences.

Some words. A *source* is an input feature, and a *target* is an output. Multiply a model's
matrices out, and you get one matrix U. Its entry U_ij says how strongly source j drives target i.
These entries are the model's *virtual weights*: most models do not store them, but compute them
from smaller matrices. Right answers are made with a matrix of their own, A. The weights in it are
the *circuit* of the task.

Notation, in every file. Papers write an example as a column, h = W x. In this code an example is a
*row* of an array, so that the same product reads h = x @ W.T.

    symbol      shape    meaning
    ----------  -------  --------------------------------------------------------------------------
    n, m, B              number of features, number of shared dimensions, number of examples
    x           (B, n)   features: most are 0
    W_down      (m, n)   the matrix into the m shared dimensions
    h           (B, m)   what is stored there: h = x @ W_down.T
    W_up        (n, m)   the matrix out of the shared dimensions
    b           (n,)     bias
    z, y_hat    (B, n)   z = h @ W_up.T + b, and the model's output y_hat = relu(z) = max(z, 0)
    y           (B, n)   right answers
    W           (m, n)   in a tied model W_down is W and W_up is W.T: one matrix does both
    U           (n, n)   virtual weights, W_up @ W_down: U[i, j] carries source j to target i
    A           (n, n)   the task's circuit
    v           (n,)     the task's bias: right answers are y = relu(x @ A.T + v)
    importance  (n,)     the weight of each target in the loss (1 each, unless said otherwise)

The loss is a mean over examples r and a sum over targets i. (Two models add a penalty to it.)

    L = 1/B sum_r sum_i importance_i (y_hat_ri - y_ri)^2

One derivation serves all models. Each of them computes z_ri = sum_j U_ij x_rj + b_i, and they
differ only in what U is made of. Apply the chain rule from the loss backwards. The *gate* of target
i is 1 in the examples with z_i > 0, where the relu lets z through, and 0 in the others.

    error_ri = y_hat_ri - y_ri                            error = y_hat - y
    g_ri = dL/dz_ri                                       g = 2 / B * importance * error * gate
    dL/db_i  = sum_r g_ri                                 db = g.sum(axis=0)
    dL/dU_ij = sum_r g_ri x_rj                            dU = g.T @ x    (dU is short for dL/dU)

One more step leads from dU to the arrays that a model really trains. As U_ij is the sum over the
shared dimensions k of W_up_ik W_down_kj, the chain rule gives

    dL/dW_down_kj = sum_i W_up_ik dL/dU_ij                dW_down = W_up.T @ dU
    dL/dW_up_ik   = sum_j dL/dU_ij W_down_kj              dW_up   = dU @ W_down.T

    untied   these two
    tied     W plays both parts, W_down = W and W_up = W.T, so its two derivatives add up:
                                                          dW = dW_down + dW_up.T
                                                             = W @ dU + W @ dU.T
    lifted   U is free, and itself trained; a penalty l1 sum|U| adds l1 sign(U) to dU
    masked   U = V * s: fixed weights V, and for each a switch s = sigmoid(logits) between 0 and 1.
             A penalty times sum s is added to the loss. As ds/dlogits = s (1 - s),
                                                          dlogits = (dU * V + penalty) * s * (1 - s)

A product of matrices may be bracketed either way. dW_up = (g.T @ x) @ W_down.T is the same as
g.T @ (x @ W_down.T) = g.T @ h, and dW_down = W_up.T @ (g.T @ x) is the same as dh.T @ x, where
dh = g @ W_up is the slope along h. Forming g.T @ x takes B n^2 multiplications, and each of the
others only B n m. This is why the models with a bottleneck below never form dU.

One model reads letters. Its output is a probability for each letter, y_hat = softmax(z), and its
loss is the cross-entropy, without importance. One line of the derivation changes, and no other:
g = (w * y_hat - y) / B, where w is the sum of each row of y, usually 1 (`cross_entropy`).

Sources: Toy Models of Superposition (Elhage et al. 2022) for the tied model; A Toy Model of
Interference Weights (Olah, Turner, Conerly 2025; "the note") for the block task and the lifted
model.
"""
import os

# BLAS reads these when NumPy loads. For matrices this small, one thread is the fastest.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import copy
import math
from types import SimpleNamespace

import numpy as np


# --- Losses: from z to L and g = dL/dz ------------------------------------------------------------

def relu(z):
    """max(z, 0), elementwise."""
    return np.maximum(z, 0)


def softmax(z):
    """exp(z) over its sum along the last axis: each row becomes probabilities."""
    z = 1.0 * np.asarray(z)                     # floats
    z = z - z.max(axis=-1, keepdims=True)       # changes no ratio, and prevents overflow
    exponentials = np.exp(z)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def squared_error(z, y, importance):
    """The loss L of y_hat = relu(z), a float, and g = dL/dz (B, n).

    z, y (B, n), floats; importance (n,) >= 0. Nothing is checked: this runs in every training step.
    """
    B = len(z)
    gate = z > 0                                                        # (B, n)
    error = z * gate - y                                           # (B, n); z * gate is relu(z)
    L = np.mean(error**2 @ importance, dtype=np.float64)                # (B, n) @ (n,) -> (B,)
    g = 2 / B * importance * error * gate                               # (B, n)
    return float(L), g


def cross_entropy(z, y):
    """The loss L of y_hat = softmax(z), a float, and g = dL/dz (B, n).

        L = -1/B sum_r sum_i y_ri log y_hat_ri,     log y_hat_ri = z_ri - log sum_k exp(z_rk)

    y (B, n) >= 0: how much each right answer counts. Usually each row adds up to 1. It may also add
    up to any other weight w_r, so that an example of a frequent letter counts more.
    The derivative of log y_hat_i with respect to z_k is 1 - y_hat_k if i = k, and -y_hat_k
    otherwise. Added up with weights y_ri, this is y_rk - w_r y_hat_rk. Hence g = (w y_hat - y) / B.
    """
    B = len(z)
    z = z - z.max(axis=1, keepdims=True)                                # the same, no overflow
    log_y_hat = z - np.log(np.exp(z).sum(axis=1, keepdims=True))        # (B, n)
    w = y.sum(axis=1, keepdims=True)                                    # (B, 1)
    L = -np.mean(np.sum(y * log_y_hat, axis=1), dtype=np.float64)
    g = (w * np.exp(log_y_hat) - y) / B                                 # (B, n)
    return float(L), g


# --- Models: forward and backward side by side ----------------------------------------------------

class Model:
    """What all models share.

    `forward` gives a model's output. `backward` gives its loss and the gradients: it is the
    derivation above, in code. `parameters` are the arrays that training changes, attributes of the
    model by their names; one of them is the bias b. All arrays are copies of its own, in one dtype.
    `backward` runs in every training step and checks nothing. `loss_and_gradients` checks first
    (how: "At the door", at the end of this file).
    """

    def loss_and_gradients(self, x, y, importance=None):
        """The loss, a float, and a dict with the gradient of each of `parameters`.

        x, y (B, n); importance (n,) >= 0, or None: all targets count alike. Raises as `real_array`.
        """
        return self.backward(*self.checked(x, y, importance))

    def loss(self, x, y, importance=None):
        """The loss alone, a float. Arguments as in `loss_and_gradients`."""
        return self.loss_and_gradients(x, y, importance)[0]

    @property
    def dtype(self):
        """What the model computes in: float32 if all its arrays are, and else float64."""
        return np.result_type(np.float32, *self.parameters.values())

    def checked_features(self, x):
        """x as an array (B, n) of the model's dtype."""
        return real_array("x", x, ("B", len(self.b)), self.dtype)

    def checked(self, x, y, importance):
        """x, y and importance as arrays that fit the model, in its dtype."""
        x = self.checked_features(x)
        y = real_array("y", y, x.shape, x.dtype)
        if importance is None:
            importance = np.ones(len(self.b))
        importance = real_array("importance", importance, (len(self.b),), x.dtype)
        require(importance.min() >= 0, "importance must not be negative")
        return x, y, importance


class TiedModel(Model):
    """y_hat = relu(x @ W.T @ W + b): one matrix stores the features and reads them.

    Column j of W (m, n) is the direction that stores feature j. b (n,) is the bias.
    """

    def __init__(self, W, b):
        self.W = real_array("W", W, ("m", "n")).copy()
        self.b = same_dtype_copy("b", b, (self.W.shape[1],), like=self.W)

    def forward(self, x):
        """The output y_hat (B, n) for features x (B, n). Raises as `real_array`."""
        x = self.checked_features(x)
        h = x @ self.W.T                    # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W + self.b             # (B, m) @ (m, n) -> (B, n)
        return relu(z)

    def backward(self, x, y, importance):
        """The loss, and a dict with the gradients of "W" and "b".

        Nothing is checked here: x, y (B, n) and importance (n,) are arrays that fit.
        """
        h = x @ self.W.T                    # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W + self.b             # (B, m) @ (m, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        db = g.sum(axis=0, dtype=np.float64)        # (B, n) -> (n,); float32 would lose digits
        dW_up_T = h.T @ g                   # W @ dU.T, as h.T = W @ x.T:    (m, B) @ (B, n)
        dh = g @ self.W.T                   # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x                  # W @ dU,   as dh.T = W @ g.T:   (m, B) @ (B, n)
        return L, {"W": dW_down + dW_up_T, "b": db}

    @property
    def parameters(self):
        """The arrays that training changes, by name."""
        return {"W": self.W, "b": self.b}

    def virtual_weights(self):
        """U = W.T @ W (n, n): symmetric, of rank m at most."""
        return self.W.T @ self.W

    @classmethod
    def initialise(cls, rng, n, m, scale=None, dtype=np.float32):
        """A new model of n features in m dimensions: W normally distributed, b = 0.

        scale: the standard deviation of W, by default sqrt(2 / (n + m)) (Glorot and Bengio 2010).
        rng: as in `generator`.
        """
        n = whole_number("n", n, least=1)
        m = whole_number("m", m, least=1)
        check_dtype(dtype)
        if scale is None:
            scale = (2 / (n + m))**0.5
        positive_number("scale", scale)
        W = generator(rng).normal(0, scale, (m, n))
        return cls(W.astype(dtype), np.zeros(n))


class UntiedModel(Model):
    """y_hat = relu(x @ W_down.T @ W_up.T + b): reading may differ from storing.

    W_down (m, n), W_up (n, m), b (n,).
    """

    def __init__(self, W_down, W_up, b):
        self.W_down = real_array("W_down", W_down, ("m", "n")).copy()
        m, n = self.W_down.shape
        self.W_up = same_dtype_copy("W_up", W_up, (n, m), like=self.W_down)
        self.b = same_dtype_copy("b", b, (n,), like=self.W_down)

    def forward(self, x):
        """The output y_hat (B, n) for features x (B, n). Raises as `real_array`."""
        x = self.checked_features(x)
        h = x @ self.W_down.T               # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W_up.T + self.b        # (B, m) @ (m, n) -> (B, n)
        return relu(z)

    def backward(self, x, y, importance):
        """The loss and a dict of gradients. Nothing is checked: arguments as from `checked`."""
        h = x @ self.W_down.T               # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W_up.T + self.b        # (B, m) @ (m, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        db = g.sum(axis=0, dtype=np.float64)        # (B, n) -> (n,)
        dW_up = g.T @ h                     # dU @ W_down.T:  (n, B) @ (B, m) -> (n, m)
        dh = g @ self.W_up                  # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x                  # W_up.T @ dU:    (m, B) @ (B, n) -> (m, n)
        return L, {"W_down": dW_down, "W_up": dW_up, "b": db}

    @property
    def parameters(self):
        """The arrays that training changes, by name."""
        return {"W_down": self.W_down, "W_up": self.W_up, "b": self.b}

    def virtual_weights(self):
        """U = W_up @ W_down (n, n), of rank m at most."""
        return self.W_up @ self.W_down

    @classmethod
    def initialise(cls, rng, n, m, start="fan-in", dtype=np.float32):
        """A new model of n features in m dimensions: weights normally distributed, b = 0.

        start: how their standard deviations are chosen. "fan-in": 1 / sqrt(inputs of each output),
        so n^-1/2 for W_down and m^-1/2 for W_up (LeCun et al. 1998). "Glorot": sqrt(2 / (n + m))
        for both. "unit": m^-1/2 for both, so that each feature is stored with length about 1.
        rng: as in `generator`.
        """
        n = whole_number("n", n, least=1)
        m = whole_number("m", m, least=1)
        check_dtype(dtype)
        glorot = (2 / (n + m))**0.5
        scales = {"fan-in": (n**-0.5, m**-0.5), "Glorot": (glorot, glorot),
                  "unit": (m**-0.5, m**-0.5)}
        require(start in scales, f"start must be one of {', '.join(scales)}, got {start!r}")
        scale_down, scale_up = scales[start]
        rng = generator(rng)
        W_down = rng.normal(0, scale_down, (m, n))
        W_up = rng.normal(0, scale_up, (n, m))
        return cls(W_down.astype(dtype), W_up, np.zeros(n))


class SoftmaxModel(UntiedModel):
    """y_hat = softmax(x @ W_down.T @ W_up.T + b): a probability for each target.

    Its arrays are those of the untied model. In `backward` only the third line is another.
    """

    def forward(self, x):
        """Probabilities y_hat (B, n), each row adding up to 1, for x (B, n)."""
        x = self.checked_features(x)
        h = x @ self.W_down.T               # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W_up.T + self.b        # (B, m) @ (m, n) -> (B, n)
        return softmax(z)

    def backward(self, x, y, importance):
        """The loss and a dict of gradients. Nothing is checked, and importance is not used."""
        h = x @ self.W_down.T               # (B, n) @ (n, m) -> (B, m)
        z = h @ self.W_up.T + self.b        # (B, m) @ (m, n) -> (B, n)
        L, g = cross_entropy(z, y)          # the line that changes
        db = g.sum(axis=0, dtype=np.float64)        # (B, n) -> (n,)
        dW_up = g.T @ h                     # dU @ W_down.T:  (n, B) @ (B, m) -> (n, m)
        dh = g @ self.W_up                  # (B, n) @ (n, m) -> (B, m)
        dW_down = dh.T @ x                  # W_up.T @ dU:    (m, B) @ (B, n) -> (m, n)
        return L, {"W_down": dW_down, "W_up": dW_up, "b": db}

    def checked(self, x, y, importance):
        """As in `Model`; but y must be 0 or more, and importance None, as rows have weights."""
        require(importance is None, "a SoftmaxModel takes no importance")
        x, y, importance = super().checked(x, y, None)
        require(y.min() >= 0, "y must be 0 or more: each row is a distribution, times a weight")
        return x, y, importance


class LiftedModel(Model):
    """y_hat = relu(x @ U.T + b) in which every entry of U (n, n) is free.

    There is no bottleneck. Adds l1 * sum|U| to the loss, l1 >= 0.
    """

    def __init__(self, U, b, l1=0.0):
        number_from_0("l1", l1)
        self.U = real_array("U", U, ("n", "n")).copy()
        self.b = same_dtype_copy("b", b, (len(self.U),), like=self.U)
        self.l1 = l1

    def forward(self, x):
        """The output y_hat (B, n) for features x (B, n). Raises as `real_array`."""
        z = self.checked_features(x) @ self.U.T + self.b        # (B, n) @ (n, n) -> (B, n)
        return relu(z)

    def backward(self, x, y, importance):
        """The loss and a dict of gradients. Nothing is checked: arguments as from `checked`."""
        z = x @ self.U.T + self.b           # (B, n) @ (n, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        db = g.sum(axis=0, dtype=np.float64)        # (B, n) -> (n,)
        dU = g.T @ x                        # (n, B) @ (B, n) -> (n, n)
        penalty = float(self.l1 * np.abs(self.U).sum())
        return L + penalty, {"U": dU + self.l1 * np.sign(self.U), "b": db}

    @property
    def parameters(self):
        """The arrays that training changes, by name."""
        return {"U": self.U, "b": self.b}

    def virtual_weights(self):
        """U (n, n) itself, as a copy."""
        return self.U.copy()


class MaskedModel(Model):
    """y_hat = relu(x @ (V * s).T + b): each of the fixed weights V (n, n) has a switch.

    The switches s = sigmoid(logits) lie between 0 and 1. Adds penalty * sum s to the loss,
    penalty >= 0.
    """

    def __init__(self, V, b, logits, penalty=0.0):
        number_from_0("penalty", penalty)
        self.V = real_array("V", V, ("n", "n")).copy()
        n = len(self.V)
        self.b = same_dtype_copy("b", b, (n,), like=self.V)
        self.logits = same_dtype_copy("logits", logits, (n, n), like=self.V)
        self.penalty = penalty

    def mask(self):
        """s = 1 / (1 + exp(-logits)) (n, n), which is (1 + tanh(logits / 2)) / 2."""
        return 0.5 * (1 + np.tanh(0.5 * self.logits))

    def forward(self, x):
        """The output y_hat (B, n) for features x (B, n). Raises as `real_array`."""
        z = self.checked_features(x) @ self.virtual_weights().T + self.b
        return relu(z)

    def backward(self, x, y, importance):
        """The loss and a dict of gradients. Nothing is checked: arguments as from `checked`."""
        s = self.mask()
        z = x @ (self.V * s).T + self.b     # (B, n) @ (n, n) -> (B, n)
        L, g = squared_error(z, y, importance)
        db = g.sum(axis=0, dtype=np.float64)        # (B, n) -> (n,)
        dU = g.T @ x                        # (n, B) @ (B, n) -> (n, n)
        dlogits = (dU * self.V + self.penalty) * s * (1 - s)
        return L + float(self.penalty * s.sum()), {"logits": dlogits, "b": db}

    @property
    def parameters(self):
        """The arrays that training changes, by name."""
        return {"logits": self.logits, "b": self.b}

    def virtual_weights(self):
        """U = V * s (n, n): the weights that act."""
        return self.V * self.mask()

# --- Training -------------------------------------------------------------------------------------

class Adam:
    """Adam (Kingma and Ba 2015): steps of about `learning_rate`, whatever a gradient's size.

    mean   <- mean   + (1 - beta1) (gradient - mean)       a running average
    square <- square + (1 - beta2) (gradient^2 - square)
    p      <- p - learning_rate mean_hat / (sqrt(square_hat) + epsilon)

    Both averages start at 0 and are therefore too small at first. After t steps, dividing them by
    1 - beta^t makes up for it: mean_hat = mean / (1 - beta1^t), and square_hat likewise.

    parameters: dict name -> array of float32 or float64, which `step` changes in place.
    learning_rate and epsilon are above 0, the betas in [0, 1).
    """

    def __init__(self, parameters, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
        positive_number("learning_rate", learning_rate)
        positive_number("epsilon", epsilon)
        number_from_0("beta1", beta1, below=1)
        number_from_0("beta2", beta2, below=1)
        for name, p in parameters.items():
            check_dtype(p.dtype, name)
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.mean = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.square = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.t = 0

    @np.errstate(over="raise", invalid="raise")
    def step(self, gradients, learning_rate=None):
        """Change every parameter in place, given a dict with the gradient of each.

        gradients: entries of other names are ignored. learning_rate: 0 or more, for this one step.
        Raises FloatingPointError if a number gets too large for its dtype.
        """
        if learning_rate is None:
            learning_rate = self.learning_rate
        number_from_0("learning_rate", learning_rate)
        self.t += 1
        for name, p in self.parameters.items():
            gradient = np.asarray(gradients[name], p.dtype)
            require(gradient.shape == p.shape, f"the gradient of {name} must have its shape")
            mean = self.mean[name]
            square = self.square[name]
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient**2 - square)
            mean_hat = mean / (1 - self.beta1**self.t)
            square_hat = square / (1 - self.beta2**self.t)
            p -= learning_rate * mean_hat / (np.sqrt(square_hat) + self.epsilon)


# Freeing one large block makes Linux (its glibc) keep freed memory for the next step instead of
# giving it back. With arrays of some hundred thousand numbers a step takes half the time; smaller
# ones gain nothing.
np.empty(2**24, np.uint8)


def train(model, task, steps, batch_size=1024, learning_rate=1e-3, rng=0, schedule="constant",
          snapshots=(), only=None):
    """Train `model` in place on fresh batches of `task`, with Adam.

    rng: as in `generator`. The batches come from a stream spawned from it, so that they share no
    random number with a model that was initialised with the same seed.
    schedule: "constant", or "cosine": the learning rate falls along half a wave, from its full
    value at the first step towards 0, which step number `steps` would have.
    snapshots: numbers of updates after which to keep a copy of all parameters (0: the start).
    only: names of the parameters to train; None trains all.

    The loss counts targets by the task's importance. Returns an object with .losses (steps,), each
    measured before its update, and .snapshots, a dict from the number of updates to a dict of
    copied parameters. Raises FloatingPointError as soon as the loss is not finite, and ValueError
    or TypeError for arguments that make no sense.
    """
    names, snapshots = checked_training(model, task, steps, batch_size, schedule, snapshots, only)
    adam = Adam({name: model.parameters[name] for name in names}, learning_rate)
    stream = generator(rng).spawn(1)[0]
    dtype = model.dtype
    losses = np.empty(steps)
    kept = {}
    for step in range(steps):
        if step in snapshots:
            kept[step] = copy.deepcopy(model.parameters)
        x, y = task.batch(stream, batch_size)
        if step == 0:                           # one checked batch is enough
            _, _, importance = model.checked(x, y, task.importance)
        loss, gradients = model.backward(np.asarray(x, dtype), np.asarray(y, dtype), importance)
        if not math.isfinite(loss):
            raise FloatingPointError(f"no finite loss at step {step}: try a lower learning_rate")
        losses[step] = loss
        fraction = 1.0
        if schedule == "cosine":
            fraction = 0.5 * (1 + math.cos(math.pi * step / steps))
        adam.step(gradients, learning_rate * fraction)
    if steps in snapshots:
        kept[steps] = copy.deepcopy(model.parameters)
    return SimpleNamespace(losses=losses, snapshots=kept)


def check_gradients(model, x, y, importance=None):
    """How far each parameter's gradient is from central differences: a dict name -> float.

        (L(p + d) - L(p - d)) / (2 d) = L'(p) + d^2 L'''(p) / 6 + ...,     d = 10^-6

    in float64. Rounding adds about 1e-10 L. What is returned is the largest difference of the two,
    divided by the largest of the central differences (or by L / 10,000, near an optimum). Where
    z is exactly 0 the relu has no derivative, nor has |U| where U is 0, so check elsewhere. The
    model itself is not changed.
    """
    d = 1e-6
    model = copy.deepcopy(model)
    for name, p in model.parameters.items():
        setattr(model, name, p.astype(np.float64))
    loss, gradients = model.loss_and_gradients(x, y, importance)
    errors = {}
    for name, p in model.parameters.items():
        differences = np.empty(p.shape)
        for index, value in np.ndenumerate(p):
            p[index] = value + d
            above = model.loss(x, y, importance)
            p[index] = value - d
            below = model.loss(x, y, importance)
            p[index] = value
            differences[index] = (above - below) / (2 * d)
        worst = np.abs(gradients[name] - differences).max()
        errors[name] = float(worst / max(np.abs(differences).max(), 1e-4 * loss, 1e-8))
    return errors


# --- Data: sparse features, and tasks with a known circuit ----------------------------------------

def sparse_features(rng, batch_size, n, density, dtype=np.float32, binary=False):
    """Independent features x (B, n): each is active with probability `density`, else 0.

    An active feature is uniform on [0, 1], or always 1 if `binary`. density: one number in (0, 1],
    or one for each feature. rng: as in `generator`.
    """
    B = whole_number("batch_size", batch_size, least=1)
    n = whole_number("n", n, least=1)
    check_dtype(dtype)
    true_or_false("binary", binary)
    check_density(density, n)
    rng = generator(rng)
    if np.ndim(density) == 0:
        return few_active(rng, B, n, density, dtype, binary)
    active = rng.random((B, n)) < density
    values = 1 if binary else rng.random((B, n))
    return (active * values).astype(dtype)


def few_active(rng, B, n, density, dtype, binary):
    """The same for a single density, ten times as fast at density 0.02.

    Draw how many of the B n features are active, then which of them, and values for these alone.
    """
    count = rng.binomial(B * n, density)
    places = rng.choice(B * n, count, replace=False, shuffle=False)
    x = np.zeros(B * n, dtype)
    x[places] = 1 if binary else rng.random(count, dtype)
    return x.reshape(B, n)


def correlated_features(rng, batch_size, set_size, n_active=2, dtype=np.float32):
    """Two sets of features that are never active together (Appendix 3 of the note).

    In each example a fair coin picks one of the sets, and `n_active` of its features are active,
    any choice equally likely, with values uniform on (0, 1]. Returns x (B, 2 set_size).
    """
    check_dtype(dtype)
    B = whole_number("batch_size", batch_size, least=1)
    size = whole_number("set_size", set_size, least=1)
    require(whole_number("n_active", n_active, least=1) <= size,
            f"n_active must be {size} or less, got {n_active}")
    rng = generator(rng)
    shuffled = rng.random((B, size)).argsort(axis=1)            # a random order in each example
    which_set = rng.integers(0, 2, (B, 1))
    places = size * which_set + shuffled[:, :n_active]          # (B, n_active)
    values = 1 - rng.random(places.shape, dtype)                # never 0
    x = np.zeros((B, 2 * size), dtype)
    np.put_along_axis(x, places, values, axis=1)
    return x


class Task:
    """A circuit A (n, n) with bias v (n,), and the features x (B, n) = sample(rng, B) it is fed.

    Right answers are y = relu(x @ A.T + v). importance: (n,) >= 0, or None: ones. The task keeps
    copies that cannot be changed, as several models may share it.
    """

    def __init__(self, A, v, sample, importance=None):
        self.A = read_only(real_array("A", A, ("n", "n")))
        n = len(self.A)
        self.v = read_only(real_array("v", v, (n,), self.A.dtype))
        self.importance = None
        if importance is not None:
            self.importance = read_only(real_array("importance", importance, (n,), self.A.dtype))
            require(self.importance.min() >= 0, "importance must not be negative")
        self.sample = sample

    def answers(self, x):
        """The right answers y (B, n) for x (B, n)."""
        return relu(x @ self.A.T + self.v)

    def batch(self, rng, batch_size):
        """One batch of examples and their right answers, x (B, n) and y (B, n)."""
        x = self.sample(generator(rng), batch_size)
        return x, self.answers(x)


class IdentityTask(Task):
    """Give x back: A = I, v = 0. For features that are never negative, as relu(x) is x then."""

    def __init__(self, n, sample, importance=None):
        super().__init__(np.eye(n), np.zeros(n), sample, importance)

    def answers(self, x):
        """A copy of x, as a product with I would cost n^2 for each example."""
        return x.copy()


def identity_task(n, density, importance=None, binary=False):
    """The task of Toy Models of Superposition: give independent sparse features back."""
    n = whole_number("n", n, least=1)
    true_or_false("binary", binary)
    check_density(density, n)
    density = copy.copy(density)                                # nobody else's to change

    def sample(rng, batch_size):
        """x (B, n) for one batch."""
        return sparse_features(rng, batch_size, n, density, binary=binary)

    return IdentityTask(n, sample, importance)


def block_task(n=128, n_blocks=8, weight_density=0.1, density=0.3, bias=-0.1, rng=0,
               binary=False):
    """The note's hard case: a random circuit inside each block of features, none between blocks.

    Inside a block each entry of A is kept with probability `weight_density`, and is then uniform on
    [0, 1]. v is `bias` for every target. rng fixes A. density, binary: as in `sparse_features`.
    """
    n = whole_number("n", n, least=1)
    n_blocks = whole_number("n_blocks", n_blocks, least=1)
    require(n % n_blocks == 0, f"n_blocks must divide {n}, got {n_blocks}")
    require(is_number(weight_density) and 0 < weight_density <= 1,
            f"weight_density must be in (0, 1], got {weight_density!r}")
    require(is_number(bias) and math.isfinite(bias), f"bias must be one number, got {bias!r}")
    true_or_false("binary", binary)
    check_density(density, n)
    density = copy.copy(density)
    rng = generator(rng)
    block = np.arange(n) // (n // n_blocks)                     # (n,), the block of each feature
    same_block = block[:, None] == block                        # (n, n)
    has_weight = rng.random((n, n)) < weight_density
    A = rng.random((n, n), np.float32) * (has_weight & same_block)

    def sample(rng, batch_size):
        """x (B, n) for one batch."""
        return sparse_features(rng, batch_size, n, density, binary=binary)

    return Task(A, np.full(n, bias), sample)


def correlated_task(set_size=100, n_active=2):
    """The task of the note's Appendix 3: give `correlated_features` back."""
    size = whole_number("set_size", set_size, least=1)
    require(whole_number("n_active", n_active, least=1) <= size,
            f"n_active must be {size} or less, got {n_active}")

    def sample(rng, batch_size):
        """x (B, 2 set_size) for one batch."""
        return correlated_features(rng, batch_size, size, n_active)

    return IdentityTask(2 * size, sample)


# --- Letters of English ---------------------------------------------------------------------------

LETTERS = " abcdefghijklmnopqrstuvwxyz"

# How often each of the 27 symbols follows a letter, in a thousand of the letter's occurrences.
# Counted in The Devil's Dictionary (Ambrose Bierce, 1911, public domain), 340,729 symbols, where
# everything but a-z is a space (here _). A 0 is less than one in two thousand; in the rows of j, k,
# q, x and z, which are rare, it is never.
LETTER_TABLE = """
    _   a  b   c   d   e   f   g   h   i  j  k   l  m   n   o   p q   r   s   t   u  v  w  x   y  z
_   0 124 45  40  33  25  36  19  52  70  5  6  23 38  34  75  41 2  23  69 155  11  7 58  0   8  0
a  94   0 28  42  46   1   7  18   2  36  1 11  85 27 199   0  19 0  96  81 133  14 24  9  1  22  1
b  14  71 13   0   2 261   0   0   0  64 10  0 151  2   1  86   0 0  63  32  11  95  1  1  0 122  0
c  27 111  0  28   0 175   0   0 142  66  0 43  30  0   0 164   0 2  52   6  97  44  0  0  0  13  0
d 546  28  0   0   9 157   1   6   1 100  9  0  11  4   2  45   0 0  16  24   0  19  6  2  0  12  0
e 351  51  3  23  74  25  11   6   1  13  0  1  34 22  92   4  10 2 127  77  25   1 18  7 11  10  0
f 448  68  0   0   0  74  45   0   0  66  0  0  23  0   0 150   0 0  70   1  17  33  0  0  0   4  0
g 340  49  0   0   1 130   0  10 116  66  0  0  24  4  34  66   0 0  85  22   3  41  0  0  0   8  0
h 114 150  2   0   0 441   1   0   0 130  0  0   1  2   2  92   0 0  13   2  26  15  0  0  0  10  0
i  19  26 12  65  30  45  20  33   0   0  0  4  44 39 244  67   7 1  33 141 137   2 24  0  1   0  4
j 237  93  0   0   0 191   0   0   2  19  0  2   0  0   0 219   0 0   0   0   0 237  0  0  0   0  0
k 280  19  2   1   0 308   1   2   2 160  0  2  21  3 120   7   0 0   1  52   1   4  0  4  0  10  0
l 163  98  0   2  46 185  13   1   0 122  0  3 124  3   1  75   3 0   1  22  17  24  4  2  0  90  0
m 147 191 30   0   0 236   2   0   0  93  0  0   2 27  10 120  62 0   4  22   0  28  0  1  0  26  0
n 296  35  1  46 138  81   7 107   2  35  2  8   8  2   8  61   1 1   1  46  94   5  5  1  0  10  0
o 127   6 11  12  21   5 133  10   2   8  0  7  35 56 159  26  21 0 126  33  43  96 14 40  0   5  0
p  45 103  0   0   0 195   0   0  45  65  0  0  95  2   0 147  51 0 157  12  31  47  0  0  0   4  0
q   8   0  0   0   0   0   0   0   0   0  0  0   0  0   0   0   0 0   4   0   0 989  0  0  0   0  0
r 210  80  3  12  31 223   4   9   2 101  0  9  12 18  19  84   6 0  13  55  48  21  9  2  0  31  0
s 422  37  1  20   2 104   2   1  38  56  0  5   8 11   3  55  27 1   1  41 125  31  0  5  0   5  0
t 218  44  0   3   0  89   1   0 325  93  0  0  12  1   1  94   0 0  29  24  16  21  0  7  0  22  0
u  34  29 24  37  27  39   7  44   1  29  0  3  96 49 122   5  40 0 144 144 125   0  1  0  1   0  1
v  24  91  0   0   0 591   0   0   0 234  0  0   0  0   0  52   0 0   0   0   0   2  0  0  0   5  0
w  94 133  0   0   3 132   3   0 233 186  0  1   8  1  52 109   0 0  22  18   2   0  0  0  0   2  0
x 121  92  0 123   0 110   0   0  25 127  0  0   2  2   2  21 250 0   2   0 112   6  2  0  0   2  0
y 772   7  2   2   3  39   1   1   1  17  0  0   6 10   7  81   5 0   5  28  10   0  0  1  0   0  1
z  54 157  0   0   0 481   0   0   0 146  0  0  16  5   0  76   0 0   0   5   5   0  0  0  0  22 32
"""

# The share of each symbol itself, in ten thousand.
LETTER_SHARES = """
1804 670 135 234 320 993 202 162 460 615 16 51 327 207
606 635 168 8 485 531 746 221 82 153 14 149 5
"""

def letter_table():
    """LETTER_TABLE as an array (27, 27), in thousandths: column j, as in U, is what follows j.

    (In the text above, it is row j.)
    """
    rows = [line.split()[1:] for line in LETTER_TABLE.strip().splitlines()[1:]]
    return np.array(rows, float).T


def letter_pairs(zero=1e-4):
    """How often each pair of letters comes in English: pairs (27, 27), adding up to 1.

    pairs[i, j] is the probability that a pair of neighbours is letter j and then letter i, in the
    order of LETTERS. zero: what a 0 of the table counts as, in shares of the letter's occurrences.
    It is above 0, as a model that gives probability 0 to something needs an infinite weight.
    """
    require(is_number(zero) and 0 < zero < 1, f"zero must be above 0 and below 1, got {zero!r}")
    table = letter_table()
    follows = np.where(table > 0, table / 1000, zero)           # P(next is i, given j), almost:
    follows /= follows.sum(axis=0)                              # columns are to add up to 1
    share = np.array(LETTER_SHARES.split(), float)
    share /= share.sum()                                        # P(j)
    return follows * share


class LetterTask:
    """Predict the next letter, from a table of how often each pair of letters comes.

    The table is all there is to know, so nothing has to be drawn from it: every batch is the whole
    table. pairs (n, n) >= 0 add up to 1, as from `letter_pairs`.
    """

    importance = None

    def __init__(self, pairs):
        self.pairs = read_only(real_array("pairs", pairs, ("n", "n"), np.float64))
        check_pairs(self.pairs)

    def batch(self, rng=None, batch_size=None):
        """x (n, n): each letter once. y (n, n): row j is n c_j times what follows letter j.

        c_j is how often letter j comes, so that a mean over the n rows is a mean over English.
        """
        n = len(self.pairs)
        return np.eye(n), n * self.pairs.T


# --- At the door: what public functions check of their arguments ----------------------------------

class BadArgument(ValueError):
    """An argument that makes no sense. The message names it, what it must be, and what it was."""


def require(condition, sentence):
    """Raise BadArgument with this sentence unless the condition holds."""
    if not condition:
        raise BadArgument(sentence)


def real_array(name, value, shape=None, dtype=None):
    """`value` as an array of finite real numbers.

    shape: the required shape, one entry for each axis. A number asks for that size, a letter for
    any size, and the same letter twice for the same size twice: ("n", "n") is any square matrix.
    None: any shape. dtype: float32 or float64; by default float32 stays, and everything else
    becomes float64. Returns the array itself where nothing has to change. Raises TypeError if the
    entries are not real numbers, or are masked; ValueError if the shape does not match, if the
    array is empty, or if an entry is NaN or infinite.
    """
    parts = value if isinstance(value, (list, tuple)) else [value]
    try:
        array = np.asarray(value)
    except Exception as error:
        raise TypeError(f"{name} must be an array of real numbers: {error}") from None
    if array.dtype.kind not in "biuf" or any(isinstance(p, np.ma.MaskedArray) for p in parts):
        raise TypeError(f"{name} must be an array of real numbers, got a {type(value).__name__} "
                        f"of {array.dtype}{' with a mask' if array.dtype.kind in 'biuf' else ''}")
    if dtype is None:
        dtype = np.float32 if array.dtype == np.float32 else np.float64
    sizes = {}
    wanted = array.shape if shape is None else shape
    fits = array.ndim == len(wanted)
    for entry, size in zip(wanted, array.shape):
        expected = sizes.setdefault(entry, size) if isinstance(entry, str) else entry
        fits = fits and size == expected
    words = ", ".join(str(entry) for entry in wanted)
    require(fits, f"{name} must have shape ({words}), got {array.shape}")
    require(array.size > 0, f"{name} must not be empty, got shape {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(dtype, copy=False)
    require(np.isfinite(array).all(), f"{name} must be finite, and not too large for "
            f"{array.dtype}, got NaN or infinite entries")
    return array


def same_dtype_copy(name, value, shape, like):
    """A copy of `value`, checked as by `real_array`, in the dtype of the array `like`."""
    return real_array(name, value, shape, like.dtype).copy()


def read_only(array):
    """A copy of the array that cannot be written."""
    array = np.array(array)
    array.flags.writeable = False
    return array


def whole_number(name, value, least):
    """`value` as an int. Raises ValueError unless it is a whole number of `least` or more."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(is_whole and value >= least,
            f"{name} must be a whole number, {least} or more, got {value!r}")
    return int(value)


def is_number(value):
    """Whether this is one real number (True and False do not count)."""
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)


def positive_number(name, value):
    """Raise ValueError unless `value` is a finite number above 0."""
    require(is_number(value) and 0 < value < math.inf,
            f"{name} must be a positive number, got {value!r}")


def number_from_0(name, value, below=math.inf):
    """Raise ValueError unless `value` is a number, 0 or more, and below the one given."""
    words = "a finite number" if below == math.inf else f"a number below {below}"
    require(is_number(value) and 0 <= value < below,
            f"{name} must be {words}, 0 or more, got {value!r}")


def true_or_false(name, value):
    """Raise ValueError unless `value` is True or False."""
    require(isinstance(value, (bool, np.bool_)), f"{name} must be True or False, got {value!r}")


def check_dtype(dtype, name="dtype"):
    """Raise ValueError unless this is one of the two precisions that models have."""
    require(np.dtype(dtype) in (np.float32, np.float64),
            f"{name} must be float32 or float64, got {dtype}")


def check_density(density, n):
    """Raise ValueError unless density is one number in (0, 1], or one for each of n features."""
    values = np.asarray(density)
    require(values.shape in ((), (n,)),
            f"density must be one number or {n}, got shape {values.shape}")
    require(np.all((values > 0) & (values <= 1)), f"density must be in (0, 1], got {density}")


def check_pairs(pairs):
    """Raise ValueError unless these are shares of pairs of letters, and every letter comes."""
    require(pairs.min() >= 0 and np.isclose(pairs.sum(), 1),
            "pairs must be 0 or more, and add up to 1")
    require(pairs.sum(axis=0).min() > 0, "every letter must come first in some pair")


def collection(name, value):
    """`value` as a set. Raises ValueError if it is a word or a number."""
    require(hasattr(value, "__iter__") and not isinstance(value, str),
            f"{name} must be a collection, like a tuple, got {value!r}")
    return set(value)


def checked_training(model, task, steps, batch_size, schedule, snapshots, only):
    """Raise ValueError unless these arguments of `train` make sense.

    Returns two sets: the names of what is to be trained, and the steps of the snapshots.
    """
    require(isinstance(model, Model), f"model must be a Model, got a {type(model).__name__}")
    require(hasattr(task, "batch") and hasattr(task, "importance"),
            f"task must have batch and importance, got a {type(task).__name__}")
    whole_number("steps", steps, least=0)
    whole_number("batch_size", batch_size, least=1)
    require(schedule in ("constant", "cosine"), f"no schedule {schedule!r}: constant or cosine")
    snapshots = collection("snapshots", snapshots)
    require(all(step in range(steps + 1) for step in snapshots), f"snapshots must be in 0..{steps}")
    known = model.parameters
    names = collection("only", known if only is None else only)
    require(names and names <= set(known), f"only must name some of {', '.join(known)}")
    return names, snapshots


def generator(rng):
    """Turn the argument `rng` of a public function into a NumPy Generator.

    rng: a Generator, which is used as it is; or a seed, a whole number s >= 0, which stands for
    np.random.default_rng(s); or a tuple of such numbers. (NumPy ignores zeros at the end, so it
    would take (s, 0) for s. Here the length of a tuple is put at its end, so that they differ.)
    """
    if isinstance(rng, np.random.Generator):
        return rng
    parts = rng if isinstance(rng, tuple) else (rng,)
    require(parts, "a seed must be a whole number or a tuple of them, got ()")
    parts = [whole_number("a seed", part, least=0) for part in parts]
    if isinstance(rng, tuple):
        parts.append(len(parts))
    return np.random.default_rng(parts)


# --- python toymodel.py ---------------------------------------------------------------------------

def demo():
    """Print the gradient check of every model."""
    print("Gradients against central differences, worst relative error")
    rng = generator(0)
    n = 6
    m = 3
    U = rng.normal(size=(n, n))
    b = rng.normal(size=n)
    x = sparse_features(rng, 50, n, density=0.5, dtype=np.float64)
    importance = np.arange(1, n + 1)
    models = [TiedModel(U[:m], b), UntiedModel(U[:m], U[:, :m], b),
              SoftmaxModel(U[:m], U[:, :m], b), LiftedModel(U, b, l1=0.1),
              MaskedModel(U, b, logits=U.T, penalty=0.1)]
    for model in models:
        is_softmax = isinstance(model, SoftmaxModel)
        errors = check_gradients(model, x, x, None if is_softmax else importance)
        words = "  ".join(f"{name} {error:.0e}" for name, error in errors.items())
        print(f"  {type(model).__name__:12} {words}")


if __name__ == "__main__":
    demo()
