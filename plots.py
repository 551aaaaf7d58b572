"""Every figure of the lesson, one function each, in reading order.

`python plots.py` makes all of them, and `--help` says the rest. In a notebook, `plots.pentagon()`
shows a figure, and `plots.pentagon(densities=(0.5, 0.1))` your own version of it.

A figure is a function of a seed and settings. It returns a `Slide`, a matplotlib Figure with its
numbers in `.numbers`, the headline first. Its docstring begins with a question and the answer; its
decorator says what kind of claim it makes, and where that comes from ("the note" is A Toy Model of
Interference Weights, "the sequel" Characterizing interference weights in a tiny language model).

One language from first to last. Green: the circuit, or what is real. Orange: interference. Black
and dashed: derived. Blue: the best score. A weight is a stick, and a matrix is rows of sticks.
"""
import interference as itf  # before NumPy, as it sets the number of BLAS threads
import toymodel as tm

import argparse
import copy
import functools
import inspect
import io
import os
import pathlib
import sys
import textwrap
import time
import traceback
from types import MappingProxyType

if __name__ == "__main__":
    os.environ.pop("MPLBACKEND", None)      # a notebook exports its own, which may not exist here

import matplotlib.style
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.widgets import Slider

STAGES = (300, 1000, 3000, 10000)           # of the block model's training: numbers of steps


# --- Trained models: one recipe each, shared by figures and tests ---------------------------------

class Trained:
    """A trained model, and what is measured on it: each thing once, when it is first asked for.

    There are three samples, so that noise in one measurement does not leak into another: x and y
    for helpfulness, the loss and the law; `other` for scores; `fresh` for pruned models. All
    targets count alike. Several figures share one of these, so its arrays are copies that cannot be
    changed.
    """

    examples = 16384        # of the first two samples

    def __init__(self, task, model, seed, examples=None):
        self.task = task
        self.model = copy.deepcopy(model)
        self.seed = seed
        self.examples = examples or self.examples
        for parameter in self.model.parameters.values():
            parameter.flags.writeable = False
        self.U = tm.read_only(model.virtual_weights())
        self.b = self.model.b

    def sample(self, number):
        """x and y, (examples, n) each, from a stream of random numbers of their own."""
        x, y = self.task.batch(tm.generator((self.seed, 1000 + number)), self.examples)
        return tm.read_only(x), tm.read_only(y)

    @functools.cached_property
    def labelled(self):
        """The sample for helpfulness, the loss and the law: (x, y)."""
        return self.sample(1)

    @functools.cached_property
    def other(self):
        """The sample for scores: (x, y)."""
        return self.sample(2)

    @functools.cached_property
    def fresh(self):
        """The sample for pruned models: (x, y), a quarter of the examples."""
        x, y = self.sample(3)
        count = len(x) // 4
        return x[:count], y[:count]

    @property
    def x(self):
        """Features (examples, n) of the first sample."""
        return self.labelled[0]

    @property
    def y(self):
        """Right answers (examples, n) of the first sample."""
        return self.labelled[1]

    @functools.cached_property
    def dL(self):
        """`helpfulness` of each weight (n, n)."""
        return tm.read_only(itf.helpfulness(self.U, self.b, self.x, self.y))

    @functools.cached_property
    def F(self):
        """`effectiveness` of each weight (n, n)."""
        return tm.read_only(itf.effectiveness(self.U, self.b, self.x))

    @functools.cached_property
    def law(self):
        """`predicted_helpfulness` of each weight (n, n)."""
        return tm.read_only(itf.predicted_helpfulness(self.U, self.b, self.x))

    @functools.cached_property
    def is_real(self):
        """Definition 2: where helpfulness is above THRESHOLD, (n, n) booleans."""
        return tm.read_only(self.dL > itf.THRESHOLD)

    @functools.cached_property
    def live(self):
        """Targets whose gate is open in more than 1 % of the examples, (n, 1) booleans."""
        gate = self.x @ self.U.T + self.b > 0
        return tm.read_only(gate.mean(axis=0) > 0.01)[:, None]

    @functools.cached_property
    def loss(self):
        """The loss on the first sample, a float."""
        return itf.lifted_loss(self.U, self.b, self.x, self.y)

    @functools.cached_property
    def scores(self):
        """`all_scores`, by name, from the second sample."""
        scores = itf.all_scores(self.U, self.b, *self.other)
        return MappingProxyType({name: tm.read_only(score) for name, score in scores.items()})

    def average_precision(self, name):
        """How well the score of that name finds the real weights, in [0, 1]."""
        return itf.average_precision(*itf.precision_recall(self.scores[name], self.is_real))

    def pruned(self, score, count, refit_bias=False):
        """The loss if only the `count` weights of the best score (n, n) are kept, as a share.

        That is, over the whole model's loss. Measured on the third sample.
        """
        pruned = itf.keep(self.U, score, count)
        whole = itf.lifted_loss(self.U, self.b, *self.fresh)
        return itf.lifted_loss(pruned, self.b, *self.fresh, refit_bias=refit_bias) / whole


@functools.cache
def pentagon_models(seed, density, decay=1.0, n=5, m=2):
    """n features in m dimensions, importance decay^i: a Trained for each of four starts.

    The best comes first, as a start can end in a worse arrangement. Trained with importance; what
    a Trained measures counts all targets alike.
    """
    task = tm.identity_task(n, density, importance=decay ** np.arange(n))
    x, y = task.batch(tm.generator((seed, 1000)), 32768)
    models = []
    for start in range(4):
        model = tm.TiedModel.initialise(tm.generator((seed, start)), n, m)
        tm.train(model, task, 1500, learning_rate=1e-2, rng=seed, schedule="cosine")
        models.append(model)
    losses = [model.loss(x, y, task.importance) for model in models]
    return tuple(Trained(task, models[k], seed) for k in np.argsort(losses))


@functools.cache
def simple_model(seed, density=0.02, start=None, converged=False):
    """The simple model: a tied model gives back 100 features through 20 dimensions.

    300 steps leave it undertrained, as the note does on purpose; `converged` takes ten times as
    many. `seed` fixes the data and, unless `start` does, the initial weights.
    """
    task = tm.identity_task(100, density)
    model = tm.TiedModel.initialise(tm.generator(seed if start is None else start), 100, 20)
    if converged:
        tm.train(model, task, 3000, batch_size=256, learning_rate=3e-3, rng=seed,
                 schedule="cosine")
    else:
        tm.train(model, task, 300, rng=seed)
    return Trained(task, model, seed)


@functools.cache
def block_stages(seed, run=0, density=0.3, binary=False, start="fan-in", stages=STAGES):
    """The block model, the note's hard case: 128 features through 16 dimensions, untied.

    Returns several stages of one training run: a dict, steps -> Trained. `seed` fixes the circuit;
    each `run` trains on it from a start of its own. density, binary: as in `sparse_features`.
    start: as in `UntiedModel.initialise`.
    """
    task = tm.block_task(density=density, binary=binary, rng=seed)
    model = tm.UntiedModel.initialise(tm.generator((seed, run, 1)), 128, 16, start)
    history = tm.train(model, task, max(stages), batch_size=256, rng=(seed, run), snapshots=stages)
    return MappingProxyType({steps: Trained(task, tm.UntiedModel(**history.snapshots[steps]), seed)
                             for steps in stages})


def block_model(seed, run=0, density=0.3, binary=False, start="fan-in", steps=1000):
    """The block model after `steps` steps; other arguments as in `block_stages`.

    At 300, 3000 and 10,000 it is a stage of the long run that `block_stages` keeps. For any other
    number a run of its own stops there: the same model, in less time.
    """
    stages = STAGES if steps in (300, 3000, 10000) else (steps,)
    return block_stages(seed, run, density, binary, start, stages)[steps]


@functools.cache
def correlated_model(seed):
    """Two sets of 100 features that are never active together, through 20 dimensions."""
    task = tm.correlated_task()
    model = tm.TiedModel.initialise(tm.generator(seed), 200, 20)
    tm.train(model, task, 2000, batch_size=512, learning_rate=2e-3, rng=seed)
    return Trained(task, model, seed)


@functools.cache
def letter_model(seed, m=4, steps=5000, zero=1e-4):
    """A language model of letters: 27 symbols through m dimensions. A SoftmaxModel, in float64.

    It is trained on the table of letter pairs itself (zero: as in `letter_pairs`). The best of four
    starts.
    """
    task = tm.LetterTask(tm.letter_pairs(zero))
    models = []
    losses = []
    for start in range(4):
        rng = tm.generator((seed, start))
        model = tm.SoftmaxModel.initialise(rng, len(tm.LETTERS), m, dtype=np.float64)
        tm.train(model, task, steps, learning_rate=0.02, schedule="cosine")
        models.append(model)
        losses.append(model.loss(*task.batch()))
    best = models[np.argmin(losses)]
    for parameter in best.parameters.values():
        parameter.flags.writeable = False
    return best

# --- Slides ---------------------------------------------------------------------------------------

GREEN = "#00664B"
ORANGE = "#E69F00"
BLUE = "#0072B2"
DERIVED = {"color": "black", "linestyle": "--", "linewidth": 2.5}
STYLE = {
    "font.size": 20,
    "axes.titlesize": 20,
    "legend.fontsize": 20,
    "figure.titlesize": 24,
    "figure.titleweight": "bold",
    "lines.linewidth": 4,
    "lines.markersize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
NO_AXES = {"xticks": (), "yticks": (), "frame_on": False}
FIGURES = {}                                # name -> function, in reading order

styled = matplotlib.style.context(STYLE, after_reset=True)      # whatever the user's settings are


class Slide(Figure):
    """A Figure for a 1280 x 720 projector that looks the same wherever it is shown."""

    draw = styled(Figure.draw)
    savefig = styled(Figure.savefig)
    numbers = MappingProxyType({})
    film = None             # a function that draws the picture of one step, if this is a film

    def _repr_png_(self):
        """What a notebook shows."""
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def new_slide(title, columns=1, rows=1, mosaic=None, **options):
    """A Slide with its title, and its axes: one of them, or an array; of a mosaic, a dict."""
    slide = Slide(figsize=(12.8, 7.2), layout="constrained")
    set_title(slide, title)
    if mosaic:
        return slide, slide.subplot_mosaic(mosaic, **options)
    return slide, slide.subplots(rows, columns, **options)


def set_title(slide, title):
    """Write the title in lines of equal length, with room for a word."""
    lines = 1 + len(title) // 66
    slide.suptitle(textwrap.fill(title, len(title) // lines + 6))


def figure(status, citation):
    """Make a function a figure of the lesson: checked settings, our style, listed in FIGURES."""
    def decorate(draw):
        """The figure made of the function `draw`."""
        signature = inspect.signature(draw)

        @functools.wraps(draw)
        @styled
        def build(*arguments, **settings):
            """Check the settings, draw, and say in the title what was set."""
            call = signature.bind(*arguments, **settings)
            call.apply_defaults()
            for name, value in call.arguments.items():
                default = signature.parameters[name].default
                call.arguments[name] = typed_setting(name, value, default)
            slide = draw(*call.args, **call.kwargs)
            changed = changed_settings(build, call.arguments)
            if changed:
                words = ", ".join(f"{name} = {text}" for name, text in changed.items())
                slide.suptitle(f"{slide.get_suptitle()}\n({words})")
            slide.numbers = {name: float(value) for name, value in slide.numbers.items()}
            tm.require(np.isfinite(list(slide.numbers.values())).all(),
                       f"{draw.__name__} has nothing to show here: the loss is 0, or no weight is "
                       "real, or nothing is ever active")
            return slide

        build.status = status
        build.citation = citation
        FIGURES[draw.__name__] = build
        return build

    return decorate


def typed_setting(name, value, default):
    """A setting in the type of its default. Raises ValueError in the user's words.

    Which values make sense is for the figure to say, or for what it calls.
    """
    if isinstance(default, tuple):
        values = value if isinstance(value, (tuple, list, np.ndarray)) else (value,)
        tm.require(len(values), f"{name} must have at least one entry")
        return tuple(typed_setting(name, one, default[0]) for one in values)
    if isinstance(default, bool):
        tm.true_or_false(name, value)
    elif isinstance(default, str):
        tm.require(isinstance(value, str), f"{name} must be a word, got {value!r}")
    elif isinstance(default, float):
        tm.require(tm.is_number(value), f"{name} must be a number, got {value!r}")
        return float(value)
    elif value is not None or default is not None:
        return tm.whole_number(name, value, least=0)
    return value


def changed_settings(build, settings):
    """The settings that differ from a figure's defaults: a dict, name -> text."""
    changed = {}
    for name, parameter in inspect.signature(build).parameters.items():
        value = settings.get(name, parameter.default)
        if value != parameter.default:
            changed[name] = text_of(value)
    return changed


def text_of(value):
    """A setting as the user would write it: 0.05, yes, space, or 0.5,0.1."""
    if isinstance(value, tuple):
        return ",".join(text_of(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "space" if value == " " else str(value)


# --- Drawing --------------------------------------------------------------------------------------

def key(slide, green, orange, derived=None):
    """What green, orange and the dashed line mean in this picture, below it."""
    entries = [Line2D([], [], color=GREEN, linewidth=10, label=green),
               Line2D([], [], color=ORANGE, linewidth=10, label=orange)]
    if derived:
        entries.append(Line2D([], [], **DERIVED, label=derived))
    slide.legend(handles=entries, loc="outside lower center", ncols=3, handlelength=1.5)


def sticks(ax, U, real, scale=1.0, width=6):
    """Weights as sticks, the rows of a matrix below each other: real ones green and thick."""
    U = np.atleast_2d(U)
    real = np.atleast_2d(real)
    i, j = np.indices(U.shape)
    ax.hlines(-np.arange(len(U)), -0.6, U.shape[1] - 0.4, color="0.8", linewidth=1)
    rest = ~real
    ax.vlines(j[rest], -i[rest], scale * U[rest] - i[rest], color=ORANGE, linewidth=width / 2)
    ax.vlines(j[real], -i[real], scale * U[real] - i[real], color=GREEN, linewidth=width)


def dots(ax, across, up, real, size=30):
    """One point for each weight; real ones are green, larger, and on top."""
    rest = ~real
    ax.scatter(across[rest], up[rest], size, ORANGE, marker=".", linewidth=0, rasterized=True)
    ax.scatter(across[real], up[real], 1.5 * size, GREEN, marker="^", linewidth=0, rasterized=True)


def arrow(ax, tip, color, width=5):
    """An arrow from the origin to a tip in the plane."""
    ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>,head_width=0.5", "lw": width,
                                             "color": color, "shrinkA": 0, "shrinkB": 0})


def correlation(first, second, where):
    """Pearson's r of the entries of two matrices, where a third is true."""
    return float(np.corrcoef(first[where], second[where])[0, 1])


def ratio_of_sums(above, below, where):
    """The sum of one matrix over the sum of another, where a third is true."""
    return float(above[where].sum() / below[where].sum())


def named(letters):
    """["h", "x", "z"] -> "h, x and z"; a space is written as "space"."""
    words = ["space" if letter == " " else letter for letter in letters]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- The first picture ----------------------------------------------------------------------------

def letters_from_zero(seed, m=4, steps=5000, zero=1e-4):
    """U (27, 27) and b of a letter model, with every weight measured from a zero (`centred`)."""
    model = letter_model(seed, m, steps, zero)
    return itf.centred(model.virtual_weights(), model.b, tm.letter_pairs(zero))


def loud_wrong_votes(U, j):
    """The letters that never follow letter j, and yet have half of the largest right vote."""
    never = tm.letter_table()[:, j] == 0
    largest = U[~never, j].max()
    return [tm.LETTERS[i] for i in np.flatnonzero(never & (U[:, j] >= largest / 2))]


@figure("ours", "the sequel's 'interference weight in the wild'")
def letters(seed=0, letter="q", m=4, steps=5000):
    """What does a wrong vote look like? Loud, for a letter that never follows, and without effect.

    From above: what follows in English; what the model answers; its weights; and what each of them
    is worth, in nats each time the letter comes. Beside the letter stands a common one, t.
    """
    tm.require(letter in list(tm.LETTERS), f"letter must be one of a to z, or space, got {letter}")
    U, b = letters_from_zero(seed, m, steps)
    pairs = tm.letter_pairs()
    c = pairs.sum(axis=0)                                        # (27,), how often each one comes
    answers = tm.softmax(U.T + b).T                              # (27, 27), column j: after j
    _, dL = itf.letter_effects(U, b, pairs)
    j = tm.LETTERS.index(letter)
    loud = loud_wrong_votes(U, j)
    best = named([tm.LETTERS[answers[:, j].argmax()]])
    title = f"After {named([letter])} the model answers {best}, and no wrong vote is loud"
    if loud:
        title = f"After {named([letter])} the model answers {best}. It also votes for " \
                f"{named(loud)}, which never follow{'' if len(loud) > 1 else 's'}"
    slide, axes = new_slide(title, columns=2, rows=4, sharex=True)
    rows = {"in English": pairs / c, "the model's\nanswer": answers,
            "its weights\n(grey: against)": U, "what each\nis worth": dL / c}
    common = "t" if letter != "t" else "e"
    for column, source in zip(axes.T, (letter, common)):
        column[0].set_title(f"after {named([source])}", weight="bold")
        for ax, (name, matrix) in zip(column, rows.items()):
            letter_bars(ax, matrix[:, tm.LETTERS.index(source)], source,
                        label_above=0.5 if matrix is U else 0.2)
        column[3].set_xlabel("next letter: space, a to z")
    for ax, name in zip(axes[:, 0], rows):
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    key(slide, green="a letter that follows", orange="one that never follows")
    never = tm.letter_table()[:, j] == 0
    slide.numbers = {"loud wrong votes": len(loud), "P(best)": answers[:, j].max(),
                     "loudest wrong vote / loudest right one":
                         U[never, j].max() / U[~never, j].max(),
                     "worth of the best": dL[:, j].max() / c[j]}
    return slide


def letter_bars(ax, heights, source, label_above):
    """27 bars, one for each next letter; the tall ones have their letter on top."""
    follows = tm.letter_table()[:, tm.LETTERS.index(source)] > 0
    colors = np.where(follows, GREEN, ORANGE)
    colors[heights < 0] = "0.75"                                 # votes against
    ax.bar(range(27), heights, 0.8, color=colors)
    ax.axhline(0, color="0.5", linewidth=1)
    ax.set(yticks=(), xticks=(), xlim=(-1, 27))
    ax.spines[["left", "bottom"]].set_visible(False)
    for i in np.flatnonzero(heights >= label_above * heights.max()):
        is_space = tm.LETTERS[i] == " "
        ax.text(i, heights[i], "space" if is_space else tm.LETTERS[i], va="bottom",
                ha="left" if is_space else "center")
    ax.set_ylim(1.1 * min(heights.min(), 0), 1.6 * heights.max())


# --- Chapter 1: sharing ---------------------------------------------------------------------------

@figure("a definition, in the numbers of a trained pentagon", "the note, introduction")
def circuit(seed=0):
    """What is a virtual weight? The sum over all paths from a source to a target."""
    W = pentagon_models(seed, density=0.05)[0].model.W
    W = W[:, np.argsort(np.arctan2(W[1], W[0]))]                 # in the order of their angles
    U = W.T @ W
    source = 1
    target = 3
    heights = np.linspace(1, 0, 5)
    middles = (0.75, 0.25)
    slide, (left, right) = new_slide("All paths from a source to a target add up to one weight",
                                     columns=2, subplot_kw=NO_AXES)
    left.set(title="the model", xlim=(-0.2, 2.2), ylim=(-0.25, 1.1))
    right.set(title="lifted: one virtual weight per pair", xlim=(-0.2, 2.2), ylim=(-0.25, 1.1))
    for height in heights:
        for middle in middles:
            left.plot([0, 1, 2], [height, middle, height], color="0.9", linewidth=1.5)
        for other in heights:
            right.plot([0, 2], [height, other], color="0.9", linewidth=1.5)
    box = {"ha": "center", "va": "center", "bbox": {"color": "white", "pad": 1}}
    for k, middle in enumerate(middles):
        left.plot([0, 1], [heights[source], middle], color=ORANGE)
        left.plot([1, 2], [middle, heights[target]], color=ORANGE)
        left.text(0.5, (heights[source] + middle) / 2, f"{W[k, source]:.3f}", **box)
        left.text(1.5, (heights[target] + middle) / 2, f"{W[k, target]:.3f}", **box)
    right.plot([0, 2], heights[[source, target]], color=ORANGE)
    right.plot([0, 2], heights[[source, source]], color=GREEN)
    paths = " + ".join(f"({W[k, source]:.3f})({W[k, target]:.3f})" for k in range(2))
    right.text(1, 0.5, f"{U[target, source]:.2f}", color="black", **box)
    right.text(1, heights[source], f"{U[source, source]:.2f}", **box)
    right.text(1, -0.2, f"{paths}\n= {U[target, source]:.2f}", ha="center", va="center")
    for k, height in enumerate(heights):
        circle(left, 0, height, f"$x_{k}$")
        circle(left, 2, height, f"$z_{k}$")
        circle(right, 0, height, f"$x_{k}$")
        circle(right, 2, height, f"$z_{k}$")
    for k, middle in enumerate(middles):
        circle(left, 1, middle, f"$h_{k}$")
    key(slide, green="what the task asks for", orange="interference")
    slide.numbers = {"sum over paths": W[:, source] @ W[:, target], "U": U[target, source]}
    return slide


def circle(ax, x, y, name):
    """A neuron with its name."""
    ax.text(x, y, name, ha="center", va="center",
            bbox={"boxstyle": "circle", "facecolor": "white", "linewidth": 2})


def stored(W):
    """Indices of the features that a tied model represents: arrows longer than 1/2."""
    return np.flatnonzero(np.linalg.norm(W, axis=0) > 0.5)


def plane_of(W, first):
    """The columns of W (m, n) in a plane (2, n): across, along arrow `first`; up, what is left."""
    direction = W[:, first] / np.linalg.norm(W[:, first])
    across = direction @ W
    rest = W - np.outer(direction, across)
    directions, _, _ = np.linalg.svd(rest)
    return np.array([across, directions[:, 0] @ rest])           # (2, n)


def draw_arrows(ax, W):
    """The stored features of a tied model as arrows in a plane, the first of them green."""
    shown = stored(W)
    if len(shown):
        tips = plane_of(W, shown[0])
        for k in shown:
            ax.plot([tips[0, k], tips[0, k]], [0, tips[1, k]], ":", color="0.4", linewidth=2)
            arrow(ax, tips[:, k], GREEN if k == shown[0] else ORANGE)
            ax.text(1.25 * tips[0, k], 1.25 * tips[1, k], str(k), ha="center", va="center")
    ax.set(aspect="equal", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), **NO_AXES)


@figure("reproduced", "Toy Models of Superposition, introduction")
def pentagon(seed=0, densities=(1.0, 0.2, 0.05), n=5, m=2, decay=0.9):
    """How many features share two dimensions? The sparser they are, the more of them move in.

    Each feature is `decay` times as important as the one before. The best of four starts. Green is
    the first feature that is stored.
    """
    tm.require(n > m, f"n must be larger than m, got n = {n} and m = {m}")
    tm.require(0 < decay <= 1, f"decay must be above 0 and at most 1, got {decay}")
    tm.check_density(densities, len(densities))
    numbers = {}
    dimensions = f"{m} dimensions" if m > 1 else "1 dimension"
    slide, axes = new_slide(f"The sparser the features, the more of them share {dimensions}",
                            columns=len(densities), rows=2, squeeze=False, height_ratios=(2, 1))
    for density, plane, row in zip(densities, axes[0], axes[1]):
        W = pentagon_models(seed, density, decay=decay, n=n, m=m)[0].model.W
        draw_arrows(plane, W)
        plane.set_title(f"density {density:g}")
        numbers[f"stored at density {density:g}"] = len(stored(W))
        first = stored(W)[0]
        sticks(row, (W.T @ W)[first], np.arange(n) == first, width=14)
        row.set(xticks=range(n), yticks=(), ylim=(-1.8, 1.8), xlabel="source j")
        row.set_ylabel(f"row {first}\nof U", rotation=0, ha="right", va="center")
        row.spines["left"].set_visible(False)
    key(slide, green="one feature: its arrow, its own weight", orange="others, and their shadows")
    tips = plane_of(W, first)[:, stored(W)]
    numbers["own weight, last"] = np.sum(W**2, axis=0).max()
    numbers["narrowest gap, last (degrees)"] = narrowest_gap(tips)
    slide.numbers = numbers
    return slide


def narrowest_gap(tips):
    """The smallest angle between neighbours among arrows (2, k), in degrees."""
    angles = np.sort(np.degrees(np.arctan2(tips[1], tips[0])))
    return np.diff(angles, append=angles[0] + 360).min()


FILM_STEPS = (0, 30, 60, 90, 120, 150, 180, 220, 260, 300, 400, 600)


@functools.cache
def film(seed):
    """W of a pentagon and of a simple model at FILM_STEPS of their training: two dicts by step."""
    small = tm.TiedModel.initialise(tm.generator(seed), 5, 2, scale=0.3)
    large = tm.TiedModel.initialise(tm.generator(seed), 100, 20)
    of_small = tm.train(small, tm.identity_task(5, 0.05), FILM_STEPS[-1], learning_rate=1e-2,
                        rng=seed, snapshots=FILM_STEPS)
    of_large = tm.train(large, tm.identity_task(100, 0.02), FILM_STEPS[-1], rng=seed,
                        snapshots=FILM_STEPS)
    return ({step: tm.read_only(of_small.snapshots[step]["W"]) for step in FILM_STEPS},
            {step: tm.read_only(of_large.snapshots[step]["W"]) for step in FILM_STEPS})


def film_picture(slide, seed, step):
    """Draw one picture of the film on an empty slide. Returns U of the larger model (100, 100)."""
    small, large = film(seed)
    U = large[step].T @ large[step]
    own = np.eye(100, dtype=bool)
    set_title(slide, f"Each feature's own weight parts from the interference (step {step})")
    left, right = slide.subplots(1, 2)
    for tip in small[step].T:
        arrow(left, tip, "black")
    left.set(title="5 features in 2 dimensions", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4),
             aspect="equal", **NO_AXES)
    bins = np.linspace(-1, 1.5, 51)
    right.hist(U[~own], bins, color=ORANGE)
    right.hist(U[own], bins, histtype="step", color=GREEN, linewidth=5)
    right.set(title="100 features in 20 dimensions", xlabel="virtual weight", yscale="log",
              ylim=(0.7, 20000), ylabel="number of weights")
    key(slide, green="a feature's own weight", orange="interference")
    return U


@figure("reproduced", "Toy Models of Superposition; the note")
def training(seed=0):
    """How do two kinds of weight come about? They part during training: watch the film."""
    slide = Slide(figsize=(12.8, 7.2), layout="constrained")
    slide.film = functools.partial(film_picture, slide, seed)
    U = slide.film(FILM_STEPS[-1])
    slide.numbers = {"own weight": U.diagonal().mean(),
                     "interference std": U[~np.eye(100, dtype=bool)].std()}
    return slide


@figure("known (Welch bound, leverage scores)", "Toy Models of Superposition, dimensionality")
def unavoidable(seed=0):
    """How much interference must a row of U have? At least 1 / share - 1 times its own square.

    A trained model for each case: density 1 (each stored feature has a dimension of its own), 0.2
    (two share one), 0.05 (five share two).
    """
    slide, ax = new_slide("The smaller a feature's share of a dimension, the more interference its "
                          "row must carry")
    slide.numbers = {}
    names = []
    for place, (name, density) in enumerate({"alone": 1.0, "pair": 0.2, "pentagon": 0.05}.items()):
        trained = pentagon_models(seed, density, decay=0.9, n=5, m=2)[0]
        i = stored(trained.model.W)[0]
        price = itf.price(trained.U)[i]
        least = 1 / itf.shares(trained.U)[i]
        ax.bar(place, 1, 0.5, color=GREEN)
        ax.bar(place, price - 1, 0.5, bottom=1, color=ORANGE)
        ax.plot([place - 0.35, place + 0.35], [least, least], **DERIVED)
        ax.text(place + 0.37, least, f"1 / share\n= {least:.2f}", va="center")
        names.append(f"{name}: share {1 / least:.2f}")
        slide.numbers[f"price times share, {name}"] = price / least
    ax.set(xticks=range(3), xticklabels=names, xlim=(-0.5, 2.8),
           ylim=(0, 2.9), ylabel="squares of a row, added up,\nover the own weight's square")
    key(slide, green="own weight, squared", orange="interference, squared and added up")
    return slide


# --- Chapter 2: two kinds of weights --------------------------------------------------------------

@figure("reproduced", "the note, figures 8, 9 and 14")
def weight_histograms(seed=0, steps=1000, density=0.3):
    """Could you tell real weights from interference by their size? In the simple model only.

    steps and density are those of the block model.
    """
    simple = simple_model(seed)
    block = block_model(seed, density=density, steps=steps)
    slide, (left, right) = new_slide("Real weights stand apart in the simple model, but not once "
                                     "they have many sizes", columns=2)
    outlined_histogram(left, simple.U, simple.is_real)
    left.set(title="simple model", ylabel="number of weights")
    outlined_histogram(right, block.U, block.is_real)
    right.set(title="block model")
    key(slide, green="real: it helps", orange="all others")
    hidden = block.U[block.is_real] < np.quantile(block.U[~block.is_real], 0.99)
    slide.numbers = {"real below the top 1 % of the others": hidden.mean(),
                     "real in the simple model": simple.is_real.sum(),
                     "real in the block model": block.is_real.sum(),
                     "real share of the circuit": block.is_real[block.task.A > 0].mean()}
    return slide


def outlined_histogram(ax, U, real):
    """How many weights have which value: interference filled, real ones outlined, both visible."""
    bins = np.linspace(U.min(), U.max(), 41)
    ax.hist(U[~real], bins, color=ORANGE)
    ax.hist(U[real], bins, histtype="step", color=GREEN, linewidth=5)
    ax.set(yscale="log", ylim=(0.7, None), xlabel="virtual weight")


def real_among_tallest(trained, i):
    """Target i has k real weights: how many of its k tallest weights are real."""
    real = trained.is_real[i]
    return np.count_nonzero(real[itf.ranking(trained.U[i])[:real.sum()]])


def typical_target(trained):
    """Of the targets with four real weights or more, the one in the middle, for `one_target`.

    In the middle of an order: by which share of the k tallest weights is real, of k real ones.
    """
    counts = trained.is_real.sum(axis=1)
    targets = np.flatnonzero(counts >= 4)
    tm.require(len(targets), "no target has four real weights: name one with target=...")
    share = [real_among_tallest(trained, i) / counts[i] for i in targets]
    return int(targets[np.argsort(share, kind="stable")[len(targets) // 2]])


@figure("reproduced, drawn anew", "the note, figure 12: base64")
def one_target(seed=0, target=None, vote=False, steps=1000, density=0.3):
    """Which of a target's 128 weights are real? Not simply the tallest.

    target: by default a typical one. vote: show only the weights, with letters on ten of them, for
    a class to guess: those that are real, and the tallest of the others.
    """
    trained = block_model(seed, density=density, steps=steps)
    tm.require(target is None or target < 128, f"target must be in 0..127, got {target}")
    i = typical_target(trained) if target is None else target
    u = trained.U[i]
    real = trained.is_real[i]
    count = np.count_nonzero(real)
    right = real_among_tallest(trained, i)
    if vote:
        tm.require(count, f"target {i} has no real weight: choose another target to vote on")
        slide, above = new_slide(f"Which of these ten weights are real? {count} are")
        above.vlines(range(128), 0, u, color="black", linewidth=6)
        above.axhline(0, color="0.5", linewidth=1)
        above.set(xlim=(-1, 133), xlabel="source j", ylim=(None, 1.6 * u.max()))
        letter_sticks(above, u, np.sort(itf.ranking(u + 100 * real)[:10]))
    else:
        title = f"{count} of this target's 128 weights are real: {right} of its {count} tallest, " \
                f"and {count - right} elsewhere"
        slide, (above, below) = new_slide(title, rows=2, sharex=True)
        sticks(above, u, real, width=9)
        sticks(below, 1000 * trained.dL[i], real, width=9)
        below.set(xlim=(-1, 133), xlabel="source j", ylabel="helpful-\nness × 1000")
        key(slide, green="real: it helps", orange="all others")
    above.set_ylabel("weight")
    counts = trained.is_real.sum(axis=1)
    several = np.flatnonzero(counts >= 4)
    found = sum(real_among_tallest(trained, i) for i in several)
    slide.numbers = {"real": count, "real among as many tallest": right,
                     "the same share, all with four or more": found / max(1, counts[several].sum())}
    return slide


def letter_sticks(ax, u, lettered):
    """Write A, B, C, ... above these sticks, side by side, with a line to each."""
    across = -5
    for letter, j in zip("ABCDEFGHIJ", lettered):
        across = max(j, across + 5)
        ax.annotate(letter, (j, max(u[j], 0)), (across, 1.4 * u.max()), ha="center", weight="bold",
                    arrowprops={"arrowstyle": "-", "color": "0.6"})


@figure("reproduced; what the start does, ours", "the note, figure 10")
def two_models(seed=0):
    """Does interference come back if you train again? Not from another start."""
    trained = simple_model(seed, converged=True)
    other = simple_model(seed + 1, converged=True)
    same_start = simple_model(seed + 1, start=seed, converged=True)
    interference = ~trained.is_real
    slide, (left, right) = new_slide("Train again from another start: the real weights come back, "
                                     "interference does not", columns=2, sharex=True, sharey=True)
    dots(left, trained.U, other.U, trained.is_real)
    dots(right, trained.U, same_start.U, trained.is_real)
    r_other = correlation(trained.U, other.U, interference)
    r_same = correlation(trained.U, same_start.U, interference)
    left.set(title=f"another start: r = {r_other:.2f}", xlabel="weight", aspect="equal",
             ylabel="trained again")
    right.set(title=f"same start, new data: r = {r_same:.2f}", xlabel="weight", aspect="equal")
    key(slide, green="the diagonal", orange="interference (r is of these)")
    early = simple_model(seed)
    early_other = simple_model(seed, start=seed + 1)
    slide.numbers = {"r, another start": r_other, "r, same start, other data": r_same,
                     "own weight": trained.U.diagonal().mean(),
                     "r, another start, 300 steps":
                         correlation(early.U, early_other.U, ~early.is_real)}
    return slide


@figure("reproduced; where it repeats, ours", "the note, figures 13 and 15")
def learned_vs_ideal(seed=0, steps=1000, density=0.3):
    """Did training find the circuit? It found most of it, too small, and interference besides."""
    trained = block_model(seed, density=density, steps=steps)
    again = block_model(seed, run=1, density=density, steps=steps)
    A = trained.task.A
    U = trained.U
    in_circuit = A > 0
    slide, ax = new_slide("Most of the circuit is learned, but too small")
    dots(ax, A, U, in_circuit, size=60)
    ax.axline((0, 0), slope=1, color="0.5", linewidth=2)
    ax.text(0.80, 0.86, "as asked for", ha="right")
    white = {"ha": "center", "weight": "bold", "bbox": {"color": "white", "pad": 2}}
    ax.text(0.75, 0.35, "shrinkage", **white)
    ax.text(0.5, -0.15, "unlearned", **white)
    ax.set(xlabel="what the task asks for, A", ylabel="what was learned, U", xlim=(-0.03, 1.03),
           ylim=(min(-0.3, U.min()), max(1.03, U.max())))
    key(slide, green="in the circuit", orange="interference: not asked for")
    both = trained.live & again.live
    block = np.kron(np.eye(8), np.ones((16, 16))) > 0
    outside = A == 0
    slide.numbers = {"too small": np.mean(U[in_circuit] < A[in_circuit]),
                     "interference std": U[outside].std(),
                     "r of two runs, in A": correlation(U, again.U, in_circuit & both),
                     "r of two runs, between blocks": correlation(U, again.U, ~block & both)}
    return slide


# --- Chapter 3: what a weight does ----------------------------------------------------------------

def slope_of(x):
    """What the law says of dL / F while the gate stays open, for x (B, n)."""
    x = x.astype(np.float64)
    return 2 * np.mean(x)**2 / np.mean(x**2) - 1


@figure("two branches, as in the sequel; the line is derived, ours", "the sequel, bifurcation plot")
def branches(seed=0, steps=1000, density=0.3):
    """Does a weight help? Its effectiveness sorts the two kinds; its size mixes them."""
    trained = block_model(seed, density=density, steps=steps)
    in_circuit = trained.task.A > 0
    outside = ~in_circuit
    F = 1000 * trained.F
    dL = 1000 * trained.dL
    slope = slope_of(trained.x)
    verb = "does harm" if slope < 0 else "helps"
    slide, (left, right) = new_slide(f"Interference {verb} in proportion to what it does, not to "
                                     "its size", columns=2, sharey=True)
    dots(left, F, dL, in_circuit, size=90)
    dots(right, np.abs(trained.U), dL, in_circuit, size=90)
    most = 1.3 * F[outside].max()
    left.plot([0, most], [0, slope * most], **DERIVED)
    bottom = 1.6 * min(dL[outside].min(), 0)
    top = -2 * bottom if slope < 0 else 1.3 * dL[outside].max()
    left.set(xlabel="effectiveness × 1000", ylabel="helpfulness × 1000", xlim=(0, most),
             ylim=(bottom, top))
    right.set(xlabel="size of the weight", xlim=(0, 0.85))
    beyond = np.count_nonzero((np.abs(trained.U) > 0.85) | (dL > top))   # counted, not drawn
    right.text(0.83, 0.9 * bottom, f"{beyond} more lie beyond", ha="right")
    key(slide, green="in the circuit", orange="interference", derived=f"derived: slope {slope:.2f}")
    live = outside & trained.live
    slide.numbers = {"dL / F outside A": ratio_of_sums(dL, F, outside), "derived": slope,
                     "r of dL and F": correlation(dL, F, live),
                     "r of dL and U^2": correlation(dL, trained.U**2, live),
                     "r of dL and the law": correlation(dL, trained.law, live)}
    return slide


@figure("derived, and drawn; ours", "`predicted_helpfulness`")
def noise(seed=0, densities=(0.1, 0.9)):
    """Why may the loss fall without a weight, and why may it rise? Noise against mean.

    For each density a block model is trained, and the most effective of its positive interference
    weights is removed. Drawn is the change D of its target, over the examples in which it acts.
    """
    tm.check_density(densities, len(densities))
    slide, axes = new_slide("Without a weight the loss falls if variance exceeds mean², and rises if "
                            "mean² exceeds variance", columns=len(densities), squeeze=False,
                            sharex=True, sharey=True)
    numbers = {}
    for density, ax in zip(densities, axes[0]):
        trained = block_model(seed, density=density)
        loudest = np.where((trained.task.A == 0) & (trained.U > 0), trained.F, 0)
        i, j = np.unravel_index(loudest.argmax(), loudest.shape)
        D = change_where_acting(trained, i, j)
        mean2 = 1000 * D.mean()**2
        variance = 1000 * D.var()
        ax.hist(D, np.arange(-0.42, 0.13, 0.02), color=ORANGE,
                weights=np.full(len(D), 100 / len(D)))
        ax.axvline(0, color="0.5", linewidth=1.5)
        arrow_from_0(ax, D.mean(), 15.5, "mean")
        arrow_from_0(ax, -D.std(), 12.5, "spread")
        outcome = "falls" if trained.dL[i, j] < 0 else "rises"
        ax.set_title(f"density {density:g}: the loss {outcome}", weight="bold")
        ax.text(-0.41, 18.4, f"mean² {mean2:.1f} {'<' if mean2 < variance else '>'} "
                f"variance {variance:.1f}", va="top")
        ax.set(xlabel="change of the target, D", ylim=(0, 19), xlim=(-0.42, 0.12))
        at_zero = 100 * np.mean(np.abs(D) < 0.02)
        if at_zero > 19:
            ax.text(0.015, 6, f"{at_zero:.0f} %\nat 0", va="center")
        numbers |= {f"density {density:g}: variance over mean^2": variance / mean2,
                    f"density {density:g}: change of the loss": 1000 * trained.dL[i, j]}
    axes[0, 0].set_ylabel("acting examples (%)")
    axes[0, 0].plot([], [], color=ORANGE, linewidth=10, label="one interference weight (mean² and "
                    "variance × 1000)")
    slide.legend(loc="outside lower center", handlelength=1)
    slide.numbers = numbers
    return slide


def change_where_acting(trained, i, j):
    """D of target i without U_ij, in the examples in which its gate is open before or after."""
    z = trained.x @ trained.U[i] + trained.b[i]
    z_without = z - trained.U[i, j] * trained.x[:, j]
    acting = (z > 0) | (z_without > 0)
    return (tm.relu(z_without) - tm.relu(z))[acting]


def arrow_from_0(ax, end, height, name):
    """A horizontal arrow from 0 to its end, with its name beside it."""
    ax.annotate("", (end, height), (0, height),
                arrowprops={"arrowstyle": "-|>,head_width=0.5", "lw": 5, "color": "black",
                            "shrinkA": 0, "shrinkB": 0})
    ax.text(end - 0.01, height, name, ha="right", va="center")


@figure("derived, then measured; ours", "`predicted_helpfulness`")
def law(seed=0, densities=(0.1, 0.3, 0.5, 0.7, 0.9), kinds=("uniform", "binary")):
    """Which share of what interference does is help or harm? The features decide, as derived.

    For each kind and density a block model is trained. Mean ablation replaces a weight's source by
    its mean, not by 0 (4,096 examples).
    """
    lines = {"uniform": (1.5, "o"), "binary": (2.0, "s")}        # rise of the derived line, marker
    tm.check_density(densities, len(densities))
    for kind in kinds:
        tm.require(kind in lines, f"kinds must be uniform, or binary, or uniform,binary, "
                   f"got {kind!r}")
    title = "Whether interference does harm or helps is decided by the features"
    if "uniform" in kinds:
        title += "; without its mean it only does harm"
    slide, ax = new_slide(title)
    numbers = {}
    distances = []
    means = []
    for kind in dict.fromkeys(kinds):                            # each kind once
        rise, marker = lines[kind]
        measured = []
        for density in densities:
            trained = block_model(seed, density=density, binary=kind == "binary")
            outside = trained.task.A == 0
            measured.append(ratio_of_sums(trained.dL, trained.F, outside))
            numbers[f"{kind}, density {density:g}"] = measured[-1]
            distances.append(abs(measured[-1] - (rise * density - 1)))
            if kind == "uniform":
                means.append(mean_ablation_slope(trained))
        ax.plot([0, 1], [-1, rise - 1], **DERIVED)
        ax.plot(densities, measured, marker, color=ORANGE, markersize=18, markeredgecolor="black",
                label=f"interference, {kind} features", zorder=3)
    ax.plot([], [], **DERIVED, label="derived")
    if means:
        ax.plot(densities, means, "x", color="0.4", markersize=16, markeredgewidth=5,
                label="the same, uniform, mean ablation")
        numbers["mean ablation, highest"] = max(means)
    ax.axhline(0, color="0.5", linewidth=1.5)
    ax.text(0.005, 0.04, "↑ help")
    ax.text(0.005, -0.13, "↓ harm")
    ax.set(xlabel="density of the features", ylim=(-1.15, 1.05), xlim=(0, 1),
           ylabel="helpfulness / effectiveness\noutside the circuit")
    ax.legend(loc="upper left", bbox_to_anchor=(0.1, 1.02))
    slide.numbers = {"largest distance": max(distances), **numbers}
    return slide


def mean_ablation_slope(trained):
    """dL / F over all interference, if a weight's source is replaced by its mean."""
    x = trained.x[:4096]
    y = trained.y[:4096]
    dL = itf.helpfulness(trained.U, trained.b, x, y, mean=True)
    F = itf.effectiveness(trained.U, trained.b, x, mean=True)
    return ratio_of_sums(dL, F, trained.task.A == 0)


@figure("ours", "the note's question why interference is there")
def one_weight(seed=0):
    """Why does training leave harmful weights in? At their arrows the pulls of all cancel.

    Left: the loss of target 0 of the pentagon, if one interference weight were another. Right: what
    each virtual weight of arrow 0 would do to its length (`pulls`).
    """
    trained = pentagon_models(seed, density=0.05)[0]
    x, y = trained.task.batch(tm.generator((seed, 5)), 2**18)
    u = trained.U[0].astype(np.float64)
    j = np.argsort(u)[-2]                                        # the largest interference weight

    def error_with(value):
        """The mean squared error of target 0 if this weight had another value."""
        row = u.copy()
        row[j] = value
        return np.mean((tm.relu(x @ row + trained.b[0]) - y[:, 0])**2)

    values = np.linspace(0, 1.6 * u[j], 40)
    errors = [error_with(value) for value in values]
    now = error_with(u[j])
    lifted = tm.LiftedModel(trained.U, trained.b)
    _, gradients = lifted.loss_and_gradients(x, y)
    pulls = 1000 * itf.pulls(trained.model.W, gradients["U"], 0)
    others = 1 + np.argsort(pulls[1:])
    title = "Alone, this weight would roll downhill. But many pull at an arrow, and pulls cancel"
    slide, (left, right) = new_slide(title, columns=2, width_ratios=(2, 3))
    left.plot(values, 1000 * np.array(errors), color=ORANGE)
    left.plot(u[j], 1000 * now, "o", color="black", markersize=18)
    left.annotate("trained\nto here", (u[j], 1000 * now), (0, -70), textcoords="offset points",
                  ha="center", va="top", arrowprops={"arrowstyle": "->", "lw": 2})
    left.set(xlabel=f"weight from source {j} to target 0", ylabel="error of target 0, × 1000",
             ylim=(0, 1150 * max(errors)))
    right.bar(0, pulls[0], 0.8, color=GREEN)
    right.bar(range(1, 5), pulls[others], 0.8, color=ORANGE)
    right.bar(5.5, pulls.sum(), 0.8, color="white", edgecolor="black", linewidth=2)
    right.axhline(0, color="0.5", linewidth=1.5)
    right.text(0.6, 0.9 * pulls[0], "↑ arrow 0 longer", va="top")
    right.text(0.6, 0.7 * pulls[0], "↓ shorter", va="top")
    names = ["own"] + [f"with {k}" for k in others] + ["sum"]
    right.set(xticks=[0, 1, 2, 3, 4, 5.5], ylabel="pull at arrow 0, × 1000")
    right.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor")
    key(slide, green="a feature's own weight", orange="interference")
    slide.numbers = {"pull of the own weight": pulls[0], "weakest pull of a shadow": max(pulls[1:]),
                     "all pulls over the first": pulls.sum() / pulls[0],
                     "error without it over now": errors[0] / now}
    return slide


# --- Chapter 4: finding the real weights ----------------------------------------------------------

SCORES = {  # what a score is called, and how its curve is drawn
    "second_order": ("second order (needs answers)", {"color": "black"}),
    "era_cosine": ("ERA × cosine", {"color": BLUE}),
    "era": ("ERA", {"color": "0.3", "linestyle": "--"}),
    "twera_floored": ("TWERA, floored", {"color": "0.3", "linestyle": ":"}),
    "weight": ("weight", {"color": "0.7"}),
    "frequency": ("frequency", {"color": "0.7", "linestyle": "--"}),
}


@figure("ERA, the note's; ERA × cosine, ours", "the note, figure 16, and 'Can we beat this?'")
def scores(seed=0, steps=1000, density=0.3):
    """What finds real weights? Their size finds a part; what they do and where they read, more.

    Left: precision and recall of four scores. Right: the area under such curves at four stages.
    """
    trained = block_model(seed, density=density, steps=steps)
    stages = {stage: block_model(seed, density=density, steps=stage) for stage in STAGES}
    title = "ERA × cosine finds more real weights than ERA, and both more than size"
    slide, (left, right) = new_slide(title, columns=2, sharey=True)
    slide.numbers = {}
    for name in ("second_order", "era_cosine", "era", "weight"):
        words, line = SCORES[name]
        precision, recall = itf.precision_recall(trained.scores[name], trained.is_real)
        left.plot(recall, precision, label=words, **line)
        areas = [stages[stage].average_precision(name) for stage in STAGES]
        right.plot(range(4), areas, marker="o", **line)
        slide.numbers[words] = itf.average_precision(precision, recall)
        slide.numbers |= {f"{words}, {stage}": area for stage, area in zip(STAGES, areas)}
    left.set(title=f"after {steps:,} steps", xlabel="recall", ylabel="precision", ylim=(0, 1.05),
             xlim=(0, 1))
    right.set(title="average precision", xticks=range(4), xlabel="training steps",
              xticklabels=[f"{stage:,}" for stage in STAGES])
    slide.legend(loc="outside lower center", ncols=2)
    era = [slide.numbers[f"ERA, {stage}"] for stage in STAGES]
    product = [slide.numbers[f"ERA × cosine, {stage}"] for stage in STAGES]
    weight = [slide.numbers[f"weight, {stage}"] for stage in STAGES]
    slide.numbers |= {"least lead of ERA × cosine": np.min(np.subtract(product, era)),
                      "least lead of ERA": np.min(np.subtract(era, weight)),
                      "precision of the weight at recall .2": precision[recall >= 0.2][0]}
    return slide


# --- Chapter 5: taking it away, and who would miss it ---------------------------------------------

def check_percents(percents):
    """Raise BadArgument unless these are shares in percent."""
    tm.require(0 < min(percents) and max(percents) <= 100,
               f"percents must be above 0 and at most 100, got {text_of(percents)}")


def signs_of_interference(trained):
    """Where interference is positive, negative, and either: name -> (n, n) booleans."""
    outside = trained.task.A == 0
    return {"positive": outside & (trained.U > 0), "negative": outside & (trained.U < 0),
            "both": outside}


def random_share(trained, percent, where):
    """A random share of the weights `where`, in percent; larger ones hold the smaller: (n, n)."""
    places = np.flatnonzero(where)
    order = tm.generator((trained.seed, 7)).permutation(places)
    chosen = np.zeros(where.size, bool)
    chosen[order[:round(percent / 100 * len(places))]] = True
    return chosen.reshape(where.shape)


def loss_without(trained, removed, refit_bias=False):
    """The loss without the weights `removed` (n, n), over the whole model's."""
    rest = np.where(removed, 0, trained.U)
    loss = itf.lifted_loss(rest, trained.b, trained.x, trained.y, refit_bias=refit_bias)
    return loss / trained.loss


@figure("expected by the note; measured and derived, ours", "the note, Appendix 4")
def crossover(seed=0, steps=1000, density=0.3, percents=(5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0)):
    """Can many harmful weights help together? One sign of them can, both signs together cannot.

    Removed: a random share of the positive interference, of the negative, or of both. The loss as a
    share of the whole model's, with all biases as they were trained.
    """
    check_percents(percents)
    percents = sorted(percents)
    trained = block_model(seed, density=density, steps=steps)
    tm.require(trained.loss > 0, "the loss is 0: there is nothing to lose")
    slide, ax = new_slide("")
    markers = {"positive": "^", "negative": "v", "both": "o"}
    ends = {}
    slide.numbers = {}
    for sign, where in signs_of_interference(trained).items():
        measured = [1.0]
        derived = [1.0]
        for percent in percents:
            removed = random_share(trained, percent, where)
            measured.append(loss_without(trained, removed))
            p_M2, p_V = itf.predicted_removal(trained.U, trained.b, trained.x, removed)
            derived.append(1 + np.sum(p_M2 - p_V) / trained.loss)
            slide.numbers[f"{sign}, {percent:g} %"] = measured[-1]
        ax.plot((0, *percents), derived, **DERIVED)
        ax.plot((0, *percents), measured, markers[sign], color=ORANGE, markersize=18,
                markeredgecolor="black")
        ax.text(percents[-1] * 1.03, measured[-1], sign, va="center")
        ends[sign] = measured[-1]
        slide.numbers |= {f"{sign}, derived": derived[-1],
                          f"{sign}, mean^2": np.sum(p_M2) / trained.loss,
                          f"{sign}, variance": np.sum(p_V) / trained.loss,
                          f"{sign}, added up": 1 + trained.dL[removed].sum() / trained.loss}
    set_title(slide, title_of_crossover(ends))
    ax.axhline(1, color="0.5", linewidth=1.5)
    ax.plot([], [], "o", color=ORANGE, markersize=18, markeredgecolor="black",
            label="interference removed: measured")
    ax.plot([], [], **DERIVED, label="derived: (mean)² − variance")
    ax.set(xlabel="removed (%)", ylabel="loss / the whole model's", xlim=(0, 1.2 * percents[-1]),
           xticks=(0, 20, 40, 60, 80, 100))
    ax.legend(loc="upper left")
    return slide


def title_of_crossover(ends):
    """What happened to the loss at the end of each curve, in words. ends: sign -> loss."""
    verbs = {sign: "rises" if end > 1 else "falls" for sign, end in ends.items()}
    both = verbs["both"]
    if verbs["positive"] != verbs["negative"]:
        return (f"Remove positive interference, and the loss {verbs['positive']}. Remove negative: "
                f"it {verbs['negative']}. Remove both: it {both}")
    if verbs["positive"] != both:
        return f"Remove one sign, and the loss {verbs['positive']}. Remove both, and it {both}"
    return f"Remove interference of one sign or of both: the loss {both}"


@figure("ours", "`best_bias`; the note's question of pruning")
def pruned_loss(seed=0, steps=1000, density=0.3,
                percents=(0.3, 0.45, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0)):
    """Is a model better without most of its weights? Yes, if its biases are refitted."""
    check_percents(percents)
    percents = sorted(percents)
    trained = block_model(seed, density=density, steps=steps)
    n_weights = trained.U.size
    counts = [max(1, round(percent / 100 * n_weights)) for percent in percents]
    slide, ax = new_slide("")
    slide.numbers = {}
    for name in ("weight", "era_cosine"):
        words, line = SCORES[name]
        score = trained.scores[name]
        old = [trained.pruned(score, count) for count in counts]
        new = [trained.pruned(score, count, refit_bias=True) for count in counts]
        ax.plot(percents, old, ":", color=line["color"], label=f"{words}, old biases")
        ax.plot(percents, new, "o-", color=line["color"], label=f"{words}, refitted")
        one_percent = n_weights // 100
        slide.numbers |= {f"{words}, old biases": trained.pruned(score, one_percent),
                          f"{words}, refitted": trained.pruned(score, one_percent, True)}
    verb = "gets better" if min(new) < 1 else "gets worse"      # by ERA × cosine
    set_title(slide, f"Keep one weight in a hundred and refit the biases: the model {verb}")
    any_of_the_circuit = one_percent_of_the_circuit(trained)
    control = trained.pruned(any_of_the_circuit, one_percent, True)
    ax.plot(1, control, "x", color="0.3", markersize=18, markeredgewidth=5,
            label="any weights of the circuit, refitted")
    ax.axhline(1, color="0.5", linewidth=1.5)
    ax.text(percents[-1], 1.01, "the whole model", ha="right", va="bottom")
    ax.set(xlabel="weights kept (%)", xscale="log", ylabel="loss / the whole model's",
           ylim=(None, 1.4), xticks=(0.3, 1, 3, 10), xticklabels=("0.3", "1", "3", "10"))
    ax.minorticks_off()
    slide.legend(loc="outside lower center", ncols=2)
    zero = np.zeros(trained.U.shape)
    best_tenth = itf.keep(trained.U, trained.scores["era_cosine"], n_weights // 10)
    slide.numbers |= {"any of the circuit over ERA × cosine":
                          control / slide.numbers["ERA × cosine, refitted"],
                      "positive share of the best tenth":
                          np.mean(best_tenth[best_tenth != 0] > 0),
                      "no weights, refitted": trained.pruned(zero, 0, True),
                      "whole model, refitted": trained.pruned(zero, n_weights, True)}
    return slide


def one_percent_of_the_circuit(trained):
    """A score that ranks weights of the circuit first, in random order: (n, n)."""
    return tm.generator((trained.seed, 8)).random(trained.U.shape) + (trained.task.A > 0)


@figure("ours", "the note, 'should we care?'")
def adversary(seed=0, steps=1000, density=0.3,
              percents=(0.6, 1.0, 1.5, 2.5, 4.0, 6.0, 10.0, 16.0, 25.0, 40.0, 63.0, 100.0)):
    """Who could use interference? Whoever may choose the features. Pruning leaves them little.

    The adversary turns on as many features as are usually on, none of which the target asks for.
    Only the most effective weights are kept, from 100 % down.
    """
    check_percents(percents)
    percents = sorted(percents)
    trained = block_model(seed, density=density, steps=steps)
    k = round(np.mean(np.count_nonzero(trained.x, axis=1)))      # the usual number
    F = trained.scores["effectiveness"]
    answers = []
    losses = []
    effects = []
    for percent in percents:
        count = max(1, round(percent / 100 * F.size))
        kept = itf.keep(trained.U, F, count)
        answers.append(driven_answer(trained, kept, k))
        losses.append(trained.pruned(F, count))
        effects.append(trained.F[kept != 0].sum() / trained.F.sum())
    slide, ax = new_slide("Weights that do almost nothing on ordinary examples are those that an "
                          "adversary uses")
    ax.plot(percents, answers, "o-", color=ORANGE,
            label=f"answer that {k} unrelated features can cause / largest right answer")
    ax.plot(percents, losses, "s-", color="0.3", label="loss / the whole model's")
    ax.plot(percents, effects, "^-", color="0.65", label="effectiveness / the whole model's")
    ax.axhline(1, color="0.5", linewidth=1.5)
    ax.set(xlabel="weights kept, the most effective (%)", xscale="log", xticks=(1, 3, 10, 30, 100),
           xticklabels=("1", "3", "10", "30", "100"), ylim=(0, 1.6 * max(answers + losses)))
    ax.minorticks_off()
    ax.legend(loc="upper left")
    hundredth = round(0.01 * F.size)
    whole = driven_answer(trained, trained.U, k)
    pruned = itf.keep(trained.U, F, hundredth)
    slide.numbers = {"answer": whole, "features": k,
                     "by chance, over the answer": answer_by_chance(trained, k) / whole,
                     "answer, 1 % kept, over the answer": driven_answer(trained, pruned, k) / whole,
                     "effectiveness, 1 % kept": trained.F[pruned != 0].sum() / trained.F.sum(),
                     "loss, 1 % kept": trained.pruned(F, hundredth),
                     "loss, 10 % kept": trained.pruned(F, 10 * hundredth),
                     "loss, 1 % by size": trained.pruned(np.abs(trained.U), hundredth)}
    return slide


def driven_answer(trained, U, k):
    """How far k unrelated features drive a target if U is left of its weights, over live targets.

    As a share of the largest right answer: both are means over live targets.
    """
    live = trained.live[:, 0]
    answers = itf.adversary(U, trained.b, trained.task.A == 0, k)
    return answers[live].mean() / trained.y.max(axis=0)[live].mean()


def answer_by_chance(trained, k):
    """The same for k unrelated features at random, all of them at 1."""
    rng = tm.generator((trained.seed, 9))
    answers = []
    for i in np.flatnonzero(trained.live):
        unrelated = np.flatnonzero(trained.task.A[i] == 0)
        chosen = [rng.choice(unrelated, k, replace=False) for _ in range(100)]
        answers.append(tm.relu(trained.U[i][chosen].sum(axis=1) + trained.b[i]).mean())
    return np.mean(answers) / trained.y.max(axis=0)[trained.live[:, 0]].mean()


# --- Chapter 6: real text -------------------------------------------------------------------------

@figure("the sequel's findings, in a model of letters; the third curve, ours",
        "the sequel, bifurcation and pruning plots")
def letters_all(seed=0):
    """Which weights of a language model help? The most effective ones; the rest can go.

    Left: each point is a pair of letters. Right: the loss without the smallest weights, the least
    effective, or the least helpful ones.
    """
    U, b = letters_from_zero(seed)
    pairs = tm.letter_pairs()
    F, dL = itf.letter_effects(U, b, pairs)
    follows = tm.letter_table() > 0
    helps = dL > 0
    slide, (left, right) = new_slide("The most effective weights help, and most of the others can "
                                     "go", columns=2)
    dots(left, 1000 * F, 1000 * dL, helps, size=150)
    top = 10                                                     # beyond it: counted, not drawn
    above = np.count_nonzero(1000 * np.maximum(F, dL) > top)
    left.plot([0, top], [0, top], **DERIVED)
    left.text(0.97 * top, -2.2, f"{above} more lie beyond", ha="right")
    left.set(xlabel="effectiveness × 1000", ylabel="helpfulness × 1000", xlim=(0, top),
             ylim=(-2.5, top))
    counts = np.unique(np.linspace(0, U.size, 28).astype(int))
    removed = 100 * (1 - counts / U.size)
    whole = letter_loss(U, b)
    curves = {"smallest": (np.abs(U), {"color": "0.6"}),
              "least effective": (F, {"color": BLUE}),
              "least helpful": (dL, {"color": "black", "linestyle": ":"})}
    for name, (score, line) in curves.items():
        losses = [letter_loss(itf.keep(U, score, count), b) - whole for count in counts]
        right.plot(removed, losses, label=f"{name} first", **line)
    right.axhline(0, color="0.5", linewidth=1.5)
    right.set(xlabel="weights removed (%)", ylabel="rise of the loss (nats)", ylim=(-0.05, 0.6))
    right.legend(loc="upper left")
    key(slide, green="helps", orange="does harm", derived="helpfulness = effectiveness")
    largest = itf.ranking(U)[:50]
    effective = itf.ranking(F)[:50]
    helpful = itf.ranking(dL)[:50]
    slide.numbers = {
        "of the 50 largest, never come": np.count_nonzero(~follows.flat[largest]),
        "of the 50 most effective, never come": np.count_nonzero(~follows.flat[effective]),
        "of the 50 most effective, among the 50 most helpful": len({*effective} & {*helpful}),
        "most effective over most effective harmful": F.max() / F[~helps].max(),
        "share that helps": np.mean(helps), "cost of all": letter_loss(0 * U, b) - whole}
    for percent in (50, 70, 85):
        count = round((1 - percent / 100) * U.size)
        for name, (score, _) in curves.items():
            loss = letter_loss(itf.keep(U, score, count), b)
            slide.numbers[f"cost of the {name} {percent} %"] = loss - whole
    return slide


def letter_loss(U, b):
    """The cross-entropy of softmax(U x + b) on English letter pairs, in nats per letter."""
    y_hat = tm.softmax(U.T + b)                                  # (27, 27), row j: after letter j
    return float(-np.sum(tm.letter_pairs().T * np.log(y_hat)))


# --- Reference: the note's own pictures, and its appendices ---------------------------------------

@figure("reproduced; ERA × cosine, ours", "the note, figures 16 and 17")
def heuristics(seed=0, steps=300, density=0.3):
    """What finds real weights early in training? Six scores, as in the note."""
    trained = block_model(seed, density=density, steps=steps)
    slide, (left, right) = new_slide("Cheap scores find the top of the list, but not the rest",
                                     columns=2, sharey=True)
    slide.numbers = {}
    for name, (words, line) in SCORES.items():
        score = trained.scores[name]
        precision, recall = itf.precision_recall(score, trained.is_real)
        left.plot(recall, precision, label=words, **line)
        right.plot(itf.loss_gain(score, trained.dL), precision, **line)
        slide.numbers[words] = itf.average_precision(precision, recall)
    oracle = trained.dL[trained.is_real].sum()
    whole = trained.dL.sum()
    right.axvline(whole, color="0.5", linewidth=2)
    right.text(0.97 * whole, 0.5, "all weights", ha="right")
    right.plot(oracle, 1, "*", color=GREEN, markersize=26, clip_on=False)
    right.text(0.97 * oracle, 1.06, "only real ones", ha="right", color=GREEN,
               bbox={"color": "white", "pad": 1})
    left.set(xlabel="recall", ylabel="precision", ylim=(0, 1.12), xlim=(0, 1))
    right.set(xlabel="loss gain: helpfulness, added up", xlim=(0, 1.05 * oracle))
    slide.legend(loc="outside lower center", ncols=3)
    cheap = [slide.numbers[words] for words, _ in list(SCORES.values())[1:]]
    slide.numbers |= {"all over oracle": whole / oracle,
                      "order of the cheap ones": cheap == sorted(cheap, reverse=True)}
    return slide


@figure("reproduced", "the note, figures 6 and 7")
def decomposition(seed=0):
    """Can U be split into circuit and interference? Yes; here two definitions agree."""
    trained = simple_model(seed)
    U = trained.U
    real = trained.is_real
    U_star, _ = itf.ideal_weights(U, trained.b, trained.task, rng=seed)
    slide, axes = new_slide("Two ways to split U into circuit and interference: here they agree",
                            mosaic="UU;AC;BD", subplot_kw=NO_AXES)
    drawn_rows(axes["U"], U, real, "the model, U")
    drawn_rows(axes["A"], U_star, real, "= Definition 1: ideal weights U*")
    drawn_rows(axes["B"], U - U_star, real, "+ the rest")
    drawn_rows(axes["C"], U * real, real, "= Definition 2: weights that help")
    drawn_rows(axes["D"], U * ~real, real, "+ the rest")
    key(slide, green="the diagonal: circuit, and real", orange="interference")
    slide.numbers = {"real on diagonal": np.diag(real).sum(), "real": real.sum(),
                     "U* off identity": np.abs(U_star - trained.task.A).max()}
    return slide


def drawn_rows(ax, U, real, title):
    """The first 3 rows and 24 columns of a matrix as sticks, with a title."""
    sticks(ax, U[:3, :24], real[:3, :24], width=9)
    ax.set(title=title, ylim=(-2.5, 1.2))


@figure("derived from 90 degrees on, and measured", "the note, Appendix 1")
def weight_sharing(seed=0):
    """Do the weights of two circuits in superposition add? Only if they are orthogonal."""
    slide, ax = new_slide("Orthogonal circuits add up; opposite ones share one weight")
    fine = np.linspace(90, 180, 91)
    ax.plot(fine, 1 / (1 + np.cos(np.radians(fine))**2), **DERIVED,
            label="derived: 1 / (1 + cos² angle)")
    angles = (60, 90, 112.5, 135, 157.5, 180)
    ratios = []
    for angle in angles:
        t = np.radians(angle)
        D = np.array([[1, 0], [np.cos(t), np.sin(t)]])
        separate = itf.shared_middle(D, [0]) + itf.shared_middle(D, [1])
        together = itf.shared_middle(D, [0, 1])
        ratios.append(np.vdot(together, separate) / np.vdot(separate, separate))
    ax.plot(angles, ratios, "o", color="0.3", markersize=18, label="trained")
    ax.text(63, ratios[0], "below 90° the\nderivation ends", va="center")
    ax.set(xticks=(60, 90, 135, 180), ylim=(0.3, 1.6), xlabel="angle between the two (degrees)",
           ylabel="trained together /\nsum of separate ones")
    ax.legend(loc="lower left")
    derived = 1 / (1 + np.cos(np.radians(angles[1:]))**2)
    slide.numbers = {"largest deviation": np.abs(ratios[1:] / derived - 1).max(),
                     "half of it at 180": ratios[-1]}
    return slide


@figure("reproduced", "the note, Appendix 2")
def converged_geometry(seed=0):
    """What is interference made of after convergence? Of geometry, or of a sharp edge."""
    dense = simple_model(seed, density=0.25, converged=True)
    sparse = simple_model(seed, density=0.001, converged=True)
    W = dense.model.W[:, stored(dense.model.W)]
    W = W / np.linalg.norm(W, axis=0)
    cosines = (W.T @ W)[np.triu_indices(W.shape[1], 1)]
    off = ~np.eye(100, dtype=bool)
    weights = sparse.U[off]
    slide, (left, right) = new_slide("Converged: dense features form opposite pairs and "
                                     "pentagons; weights of sparse ones pile up at an edge",
                                     columns=2)
    left.hist(cosines, np.linspace(-1.025, 1.025, 83), color=ORANGE, log=True)
    numbers = {}
    for angle, height in {180: 320, 144: 160, 72: 160}.items():
        cosine = np.cos(np.radians(angle))
        count = np.sum(np.abs(cosines - cosine) < 0.02)
        numbers[f"pairs at {angle} degrees"] = count
        left.annotate(f"{angle}°", (cosine, max(count, 1)), (cosine, height), ha="center",
                      arrowprops={"arrowstyle": "->", "lw": 2})
    left.set(title="density 0.25", xlabel="cosine of two features", ylabel="number of pairs",
             ylim=(0.7, 3000), xlim=(-1.2, 1.1))
    right.hist(weights, 60, color=ORANGE)
    right.axvline(-sparse.b.mean(), **DERIVED)
    right.text(-sparse.b.mean() - 0.02, right.get_ylim()[1], ha="right", va="top",
               s="left of −b, one\nsource alone\nopens no gate")
    right.set(title="density 0.001", xlabel="interference weight", ylabel="number of weights")
    numbers["largest at 0.001"] = weights.max()
    hidden = np.maximum(sparse.U, 0) <= -sparse.b[:, None]
    numbers["alone invisible at 0.001"] = hidden[off].mean()
    slide.numbers = numbers
    return slide


@figure("reproduced; the bars ours", "the note, Appendix 3")
def correlated_sets(seed=0):
    """Do the mean weights between sets of features help? Only against the rest of the interference.

    Two sets of 100 features that are never active together.
    """
    trained = correlated_model(seed)
    U = trained.U
    off = ~np.eye(200, dtype=bool)
    means = itf.set_mean_component(U, 100) * off
    same_set = np.kron(np.eye(2), np.ones((100, 100))) > 0
    slide, (left, right) = new_slide("Set means help while other interference is there; on the "
                                     "bare diagonal, only until biases are refitted", columns=2)
    bins = np.linspace(-1, 0.8, 61)
    inside = U[same_set & off]
    between = U[~same_set]
    left.hist(inside, bins, histtype="step", color="0.2", linewidth=5,
              label=f"same set, mean {inside.mean():+.2f}")
    left.hist(between, bins, histtype="step", color="0.4", linewidth=4, linestyle=":",
              label=f"other set, mean {between.mean():+.2f}")
    left.set(xlabel="interference weight", ylabel="number of weights")
    left.set_ylim(0, 1.45 * left.get_ylim()[1])
    left.legend(loc="upper left")
    variants = {"U\nless means": U - means, "diagonal\n+ means": U * ~off + means,
                "diagonal": U * ~off}
    whole = itf.lifted_loss(U, trained.b, *trained.fresh)
    numbers = {}
    for place, (name, V) in enumerate(variants.items()):
        old = itf.lifted_loss(V, trained.b, *trained.fresh) / whole
        new = itf.lifted_loss(V, trained.b, *trained.fresh, refit_bias=True) / whole
        right.bar(place - 0.2, old, 0.38, color="0.4")
        right.bar(place + 0.2, new, 0.38, color="0.75")
        words = name.replace("\n", " ")
        numbers[f"{words}, old biases"] = old
        numbers[f"{words}, refitted"] = new
    right.bar(0, 0, color="0.4", label="bias as trained")
    right.bar(0, 0, color="0.75", label="bias refitted")
    right.axhline(1, color="0.5", linewidth=1.5)
    right.set(xticks=range(3), xticklabels=variants, ylabel="loss / the whole model's")
    right.set_ylim(0, 1.6 * right.get_ylim()[1])
    right.legend(loc="upper right")
    slide.numbers = {"mean, same set": inside.mean(), "mean, other set": between.mean(),
                     "spread inside": inside.std(), "spread between": between.std(), **numbers,
                     "diagonal + means over diagonal, refitted":
                         numbers["diagonal + means, refitted"] / numbers["diagonal, refitted"]}
    return slide


@figure("ours", "the note's question 'Can we beat this?'")
def compressed_sensing(seed=0, steps=1000, density=0.3):
    """Can a sparse code undo the bottleneck? Of a linear map, yes; of a trained relu model, no.

    The linear map is A P: the circuit as the best linear read-out through the model's own
    directions would have it.
    """
    trained = block_model(seed, density=density, steps=steps)
    in_circuit = trained.task.A > 0
    V = itf.row_space(trained.U)
    linear = trained.task.A @ V.T @ V
    areas = {}
    for name, U in {"linear map": linear, "trained model": trained.U}.items():
        of_weight = itf.precision_recall(U, in_circuit)
        of_code = itf.precision_recall(itf.code_score(U), in_circuit)
        areas[name] = (itf.average_precision(*of_weight), itf.average_precision(*of_code))
    slide, ax = new_slide("A sparse code undoes the bottleneck of a linear map, but not of a relu "
                          "model")
    for place, (name, (weight, code)) in enumerate(areas.items()):
        ax.bar(place - 0.2, weight, 0.38, color="0.6")
        ax.bar(place + 0.2, code, 0.38, color=BLUE)
        ax.text(place - 0.2, weight + 0.02, f"weight\n{weight:.2f}", ha="center")
        ax.text(place + 0.2, code + 0.02, f"its sparse code\n{code:.2f}", ha="center")
    ax.set(xticks=range(2), xticklabels=areas, ylim=(0, 1.1),
           ylabel="average precision\n(how well it finds A)")
    gains = {name: code - weight for name, (weight, code) in areas.items()}
    slide.numbers = {f"{name}, gain of the code": gain for name, gain in gains.items()}
    return slide


# --- A live pentagon ------------------------------------------------------------------------------

class LivePentagon:
    """Arrows that train before your eyes: each move of a slider starts again from random ones.

    Above, the arrows; below, row 0 of U. `tick` trains 20 steps and draws; a timer calls it until
    600 steps are done. (Going on from the arrows as they are would get stuck: a feature that was
    dropped does not come back.)
    """

    def __init__(self, window):
        self.window = window
        self.plane, self.row = window.subplots(2, 1, height_ratios=(3, 1))
        window.subplots_adjust(bottom=0.3)
        above = window.add_axes((0.3, 0.14, 0.5, 0.05))
        below = window.add_axes((0.3, 0.05, 0.5, 0.05))
        self.density = Slider(above, "density", -2, 0, valinit=-1.3)
        self.n = Slider(below, "features", 3, 8, valinit=5, valstep=1)
        self.density.on_changed(self.start)
        self.n.on_changed(self.start)
        self.runs = 0
        self.timer = window.canvas.new_timer(interval=30)
        self.timer.add_callback(self.tick)
        self.start()

    def start(self, moved=None):
        """New arrows, at what the sliders say. The density slider is logarithmic."""
        n = int(self.n.val)
        density = 10**self.density.val
        self.density.valtext.set_text(f"{density:.2f}")
        self.runs += 1
        self.rng = tm.generator(self.runs)
        self.task = tm.identity_task(n, density)
        self.model = tm.TiedModel.initialise(self.rng, n, 2)
        self.adam = tm.Adam(self.model.parameters, learning_rate=0.01)
        self.timer.start()

    def tick(self):
        """Train 20 steps and draw. Returns whether there is more to come."""
        alike = np.ones(len(self.model.b), np.float32)
        for step in range(20):
            x, y = self.task.batch(self.rng, 256)
            _, gradients = self.model.backward(x, y, alike)
            self.adam.step(gradients)
        self.draw()
        more = self.adam.t < 600
        if not more:
            self.timer.stop()
        return more

    def draw(self):
        """The arrows, and row 0 of U."""
        W = self.model.W
        n = W.shape[1]
        self.plane.clear()
        self.row.clear()
        for k in range(n):
            arrow(self.plane, W[:, k], GREEN if k == 0 else ORANGE)
        self.plane.set(aspect="equal", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), **NO_AXES,
                       title=f"{len(stored(W))} of {n} features stored, step {self.adam.t}")
        sticks(self.row, W.T @ W[:, 0], np.arange(n) == 0, width=14)
        self.row.set(xticks=range(n), yticks=(), ylim=(-1.8, 1.8), xlabel="source j",
                     ylabel="row 0")
        self.window.canvas.draw_idle()


@styled
def live():
    """`--live`: open the window, or say that there is no display. Returns the exit code."""
    from matplotlib import pyplot
    try:
        window = pyplot.figure(figsize=(9, 9))
        has_display = window.canvas.required_interactive_framework is not None
    except ImportError:                         # a backend that needs what is not there
        has_display = False
    if not has_display:
        print("--live needs a display, and there is none here", file=sys.stderr)
        return 1
    window.pentagon = LivePentagon(window)      # kept as long as its window is
    pyplot.show()
    return 0



# --- The command line -----------------------------------------------------------------------------

def save(slide, path):
    """Write one figure under another name, then rename it: nobody ever sees half a file."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        if slide.film:
            save_film(slide, part)
        else:
            slide.savefig(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save_film(slide, path):
    """Write every picture of a film as a gif; the last one stays. `slide` shows the last one."""
    _, line, settings = slide.get_suptitle().partition("\n(")   # what was set, if anything was

    @styled
    def draw(step):
        """One picture."""
        slide.clear()
        slide.film(step)
        slide.suptitle(slide.get_suptitle() + line + settings)

    frames = FILM_STEPS + 3 * FILM_STEPS[-1:]
    film = FuncAnimation(slide, draw, frames, init_func=slide.clear, blit=False)
    film.save(path, PillowWriter(fps=3), dpi=100)


def setting_from_text(text, default):
    """What the user wrote after KEY=, as a Python value of the default's type where it is one."""
    if isinstance(default, tuple):
        parts = text.strip("[]()").split(",")
        return tuple(setting_from_text(part, default[0]) for part in parts if part)
    if isinstance(default, str):
        return " " if text in ("space", "_") else text
    if isinstance(default, bool):
        return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def settings_of(name, pairs):
    """["densities=0.5,0.1"] -> {"densities": (0.5, 0.1)}, typed. Raises ValueError in words."""
    defaults = {setting: parameter.default
                for setting, parameter in inspect.signature(FIGURES[name]).parameters.items()}
    known = [setting for setting in defaults if setting != "seed"]
    settings = {}
    for pair in pairs:
        setting, equals, text = pair.partition("=")
        tm.require(setting != "seed", "for another seed, use --seed")
        tm.require(setting in known,
                   f"{name} has no setting {setting}; it has: {', '.join(known) or 'none'}")
        tm.require(equals and text, f"--set needs KEY=VALUE, got {pair!r}")
        tm.require(setting not in settings, f"{setting} is set twice")
        value = setting_from_text(text, defaults[setting])
        settings[setting] = typed_setting(setting, value, defaults[setting])
    return settings


def parse(arguments):
    """The command line. What cannot be done ends here, with one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Make the figures of the lesson.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures (default: all)")
    parser.add_argument("--list", action="store_true",
                        help="print each figure's question, status, citation and settings")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="default: figures; with "
                        "--set, or a seed other than 0: what_if")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="of all random numbers, 0 or more; default: 0")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="settings of one figure, such as densities=0.5,0.1,0.03; --list says "
                        "which it has")
    parser.add_argument("--show", action="store_true", help="open them in windows, at the end")
    parser.add_argument("--live", action="store_true", help="a window with a pentagon to play with")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            tm.require("=" not in name, f"did you mean --set {name}?")
            tm.require(name in FIGURES, f"no figure named {name}; there are: {', '.join(FIGURES)}")
        options.names = list(dict.fromkeys(options.names))      # each once
        tm.whole_number("--seed", options.seed, least=0)
        tm.require(not options.set or len(options.names) == 1, "--set needs the name of one figure")
        options.settings = settings_of(options.names[0], options.set) if options.set else {}
        options.names = options.names or list(FIGURES)
        longest = max(len(file_name(name, options)) for name in options.names)
        tm.require(longest < 200, "too many settings: they would not fit into the file's name")
        options.out = options.out or pathlib.Path("what_if" if is_what_if(options) else "figures")
        if not options.list and not options.live:
            options.out.mkdir(parents=True, exist_ok=True)
            tm.require(os.access(options.out, os.W_OK), f"{options.out} cannot be written")
    except (OSError, tm.BadArgument) as error:
        parser.error(str(error))
    return options


def is_what_if(options):
    """Whether this is not the lesson's own figure: it must not take its place."""
    return bool(options.set or options.seed)


def settings_for(name, options):
    """What the command line sets of this figure. Not every figure has a seed."""
    has_seed = "seed" in inspect.signature(FIGURES[name]).parameters
    return ({"seed": options.seed} if has_seed else {}) | options.settings


def file_name(name, options):
    """pentagon.png; with other settings or another seed pentagon-seed=1-n=6.png."""
    changed = changed_settings(FIGURES[name], settings_for(name, options))
    parts = [name] + [f"{setting}={text}" for setting, text in changed.items()]
    suffix = "gif" if name == "training" else "png"
    return "-".join(parts) + f".{suffix}"


def list_figures():
    """Print the question, the status, the citation and the settings of each figure."""
    for figure_name, build in FIGURES.items():
        settings = [f"{name}={text_of(parameter.default)}"
                    for name, parameter in inspect.signature(build).parameters.items()
                    if name != "seed"]
        question = (inspect.getdoc(build) or "").partition("\n")[0]
        print(f"{figure_name:19} {question}")
        print(f"{'':19} {build.status} | {build.citation} | {' '.join(settings) or 'no settings'}")


def make(name, options):
    """Make and save one figure. Returns its path and its headline, the first of its numbers."""
    path = options.out / file_name(name, options)
    slide = FIGURES[name](**settings_for(name, options))
    save(slide, path)
    headlines = [f"{label}: {value:.3g}" for label, value in slide.numbers.items()]
    return path, headlines[0] if headlines else "no numbers"


def main(arguments=None):
    """Make what the command line asks for; returns the exit code."""
    options = parse(arguments)
    if options.list:
        list_figures()
        return 0
    if options.live:
        return live()
    began = time.perf_counter()
    made = {}
    for k, name in enumerate(options.names, 1):
        start = time.perf_counter()
        try:
            made[name], outcome = make(name, options)
            outcome = f"{outcome} -> {made[name]}"
        except tm.BadArgument as error:         # a setting that makes no sense: the user's
            outcome = f"FAILED: {error}"
        except Exception as error:              # a mistake in the figure: whose line it was
            traceback.print_exc()
            outcome = f"FAILED: {type(error).__name__}: {error}"
        took = time.perf_counter() - start
        print(f"[{k:2}/{len(options.names)}] {name:19} {took:5.1f} s  {outcome}", flush=True)
    count = "1 figure" if len(made) == 1 else f"{len(made)} figures"
    print(f"{count} in {time.perf_counter() - began:.1f} s", flush=True)
    if options.show:
        show(made)
    return 0 if len(made) == len(options.names) else 1


def show(made):
    """Open the pictures in windows."""
    from matplotlib import pyplot
    for name, path in made.items():
        pyplot.figure(name, (12.8, 7.2)).figimage(pyplot.imread(path))
    pyplot.show()


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except BrokenPipeError:                     # `| head -1`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
