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
import ast
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
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    "svg.hashsalt": "interference weights",
}
SCORES = {  # what a score is called, and how its curve is drawn
    "second_order": ("second order (needs answers)", {"color": "black"}),
    "era_cosine": ("ERA × cosine", {"color": BLUE}),
    "era": ("ERA", {"color": "0.3", "linestyle": "--"}),
    "cosine": ("cosine", {"color": "0.3", "linestyle": "-."}),
    "twera_floored": ("TWERA, floored", {"color": "0.3", "linestyle": ":"}),
    "weight": ("weight", {"color": "0.7"}),
    "frequency": ("frequency", {"color": "0.7", "linestyle": "--"}),
}
NO_AXES = {"xticks": (), "yticks": (), "frame_on": False}
STAGES = (300, 1000, 3000, 10000)
FIGURES = {}                                # name -> function, in reading order


# --- Slides ---------------------------------------------------------------------------------------

styled = matplotlib.style.context(STYLE, after_reset=True)      # whatever the user's settings are


class Slide(Figure):
    """A Figure for a 1280 x 720 projector that looks the same wherever it is shown."""

    draw = styled(Figure.draw)
    savefig = styled(Figure.savefig)
    numbers = MappingProxyType({})

    def _repr_png_(self):
        """What a notebook shows."""
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def new_slide(title, columns=1, rows=1, mosaic=None, **options):
    """A Slide with its title, and its axes: one of them, or an array; of a mosaic, a dict."""
    slide = Slide(figsize=(12.8, 7.2), layout="constrained")
    lines = 1 + len(title) // 66
    width = len(title) // lines + 6             # lines of equal length, with room for a word
    slide.suptitle(textwrap.fill(title, width))
    if mosaic:
        return slide, slide.subplot_mosaic(mosaic, **options)
    return slide, slide.subplots(rows, columns, **options)


def figure(status, source):
    """Make a function a figure of the lesson: checked settings, our style, listed in FIGURES."""
    def decorate(draw):
        signature = inspect.signature(draw)
        tm.require(draw.__doc__, f"{draw.__name__} needs a docstring: its question, and the answer")

        @functools.wraps(draw)
        def build(*arguments, **settings):
            call = signature.bind(*arguments, **settings)
            call.apply_defaults()
            for name, value in call.arguments.items():
                call.arguments[name] = checked_setting(name, value)
            with matplotlib.style.context(STYLE, after_reset=True):
                slide = draw(*call.args, **call.kwargs)
                changed = changed_settings(draw, call.arguments)
                if changed:
                    words = ", ".join(f"{name} = {text}" for name, text in changed.items())
                    slide.suptitle(f"{slide.get_suptitle()}\n({words})")
            slide.numbers = {name: float(value) for name, value in slide.numbers.items()}
            return slide

        build.status = status
        build.source = source
        FIGURES[draw.__name__] = build
        return build

    return decorate


def changed_settings(draw, settings):
    """The settings that differ from a figure's defaults: a dict, name -> text."""
    changed = {}
    for name, parameter in inspect.signature(draw).parameters.items():
        value = settings.get(name, parameter.default)
        if value != parameter.default:
            values = value if isinstance(value, tuple) else (value,)
            changed[name] = ",".join(text_of(one) for one in values)
    return changed


def text_of(value):
    """A setting as the user would write it: 0.05, yes, space."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "space" if value == " " else str(value)


class BadSetting(ValueError):
    """A setting that makes no sense: a mistake of the user's, and not of a figure."""


def require(condition, sentence):
    """Raise BadSetting with this sentence unless the condition holds."""
    if not condition:
        raise BadSetting(sentence)


def checked_setting(name, value):
    """A setting in the type that figures expect. Raises ValueError in the user's words."""
    if name == "target" and value is None:
        return None
    if name in ("seed", "target"):
        return tm.whole_number(name, value, least=0)
    if name in ("n", "m", "steps"):
        return tm.whole_number(name, value, least=1)
    if name == "vote":
        require(isinstance(value, bool),
                f"vote must be True or False (yes or no on the command line), got {value!r}")
    if name == "letter":
        is_letter = isinstance(value, str) and len(value) == 1 and value in tm.LETTERS
        require(is_letter, f"letter must be one of a to z, or a space, got {value!r}")
    if name in ("density", "decay"):
        return in_range(name, value, most=1)
    if name in ("densities", "percents", "kinds"):
        values = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,)
        require(values, f"{name} must have at least one entry")
        if name == "densities":
            return tuple(in_range(name, one, most=1) for one in values)
        if name == "percents":
            return tuple(sorted(in_range(name, one, most=100) for one in values))
        for kind in values:
            require(kind in ("uniform", "binary"),
                    f"kinds must be uniform, or binary, or uniform,binary, got {kind!r}")
        return values
    return value                                # a setting of a figure of your own


def in_range(name, value, most):
    """A number above 0, and at most this, as a float."""
    require(tm.is_number(value) and 0 < value <= most,
            f"{name} must be a number above 0 and at most {most}, got {value!r}")
    return float(value)


# --- Drawing --------------------------------------------------------------------------------------

def key(slide, green, orange):
    """What green and orange mean in this picture, below it."""
    entries = [Line2D([], [], color=GREEN, linewidth=10, label=green),
               Line2D([], [], color=ORANGE, linewidth=10, label=orange)]
    slide.legend(handles=entries, loc="outside lower center", ncols=2, handlelength=1)


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


def named(letters):
    """["h", "x", "z"] -> "h, x and z"; a space is written as "space"."""
    words = ["space" if letter == " " else letter for letter in letters]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- The first picture ----------------------------------------------------------------------------

@figure("ours", "the sequel's 'interference weight in the wild'")
def letters(seed=0, letter="q"):
    """What does a wrong vote look like? Loud, for a letter that never follows, and without effect.

    Above: which letter follows in English. Middle: the weights of the model. Below: what the loss
    would gain or lose without each. Beside the letter stands a common one, t.
    """
    model = itf.letter_model(seed)
    U = itf.centred(model.virtual_weights())
    pairs = tm.letter_pairs()
    _, dL = itf.letter_effects(U, model.b, pairs)
    follows = pairs > 0                                          # (27, 27), in English
    j = tm.LETTERS.index(letter)
    loudest_right = U[follows[:, j], j].max()
    loud = ~follows[:, j] & (U[:, j] >= loudest_right / 2)       # wrong, and half as loud
    others = [tm.LETTERS[i] for i in np.flatnonzero(loud)]
    if others:
        title = f"After {named(letter)} the model also votes for {named(others)}, " \
                f"which never {'follow' if len(others) > 1 else 'follows'}. It hardly matters"
    else:
        title = f"After {named(letter)} no letter that never follows gets half of the top vote"
    slide, axes = new_slide(title, columns=2, rows=3, sharex=True)
    common = "t" if letter != "t" else "e"
    for column, source in zip(axes.T, (letter, common)):
        k = tm.LETTERS.index(source)
        column[0].set_title(f"after {named(source)}", weight="bold")
        letter_column(column, pairs[:, k], U[:, k], dL[:, k])
    for ax, name in zip(axes[:, 0], ("in\nEnglish", "weight\n(grey:\nagainst)", "helpful-\nness")):
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    key(slide, green="a letter that follows", orange="one that never follows")
    slide.numbers = {"loud wrong votes": len(others),
                     "loudest wrong vote / loudest right one":
                         U[~follows[:, j], j].max() / loudest_right,
                     "their help / that of the right ones":
                         np.abs(dL[loud, j]).sum() / dL[follows[:, j], j].sum()}
    return slide


def letter_column(axes, counts, weights, dL):
    """Three rows of 27 bars for one source: English, the model's weights, their helpfulness."""
    for ax, row in zip(axes, (counts, weights, dL)):
        colors = np.where(counts > 0, GREEN, ORANGE)
        if row is weights:
            colors[row < 0] = "0.75"                             # votes against
        ax.bar(range(27), row, 0.8, color=colors)
        ax.axhline(0, color="0.5", linewidth=1)
        ax.set(yticks=(), xticks=(), xlim=(-1, 27))
        ax.spines[["left", "bottom"]].set_visible(False)
        tall = np.flatnonzero(row >= row.max() * (0.5 if row is weights else 0.2))
        for i in tall:
            is_space = tm.LETTERS[i] == " "
            ax.text(i, row[i], "space" if is_space else tm.LETTERS[i], va="bottom",
                    ha="left" if is_space else "center")
        ax.margins(y=0.35)
    axes[2].set_xlabel("next letter: space, a to z")


# --- Chapter 1: sharing ---------------------------------------------------------------------------

@figure("a definition, in the numbers of a trained pentagon", "the note, introduction")
def circuit(seed=0):
    """What is a virtual weight? The sum over all paths from a source to a target."""
    W = itf.pentagon_models(seed, density=0.05)[0].model.W
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
        left.plot([0, 1], [heights[source], middle], color="black")
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


def stored(model):
    """Indices of the features that a tied model represents: arrows longer than 1/2."""
    return np.flatnonzero(np.linalg.norm(model.model.W, axis=0) > 0.5)


def plane_of(W):
    """The columns of W (m, n) in a plane (2, n): across, along arrow 0; up, most of the rest."""
    direction = W[:, 0] / np.linalg.norm(W[:, 0])
    across = direction @ W
    rest = W - np.outer(direction, across)
    directions, _, _ = np.linalg.svd(rest)
    return np.array([across, directions[:, 0] @ rest])           # (2, n)


@figure("reproduced", "Toy Models of Superposition, introduction")
def pentagon(seed=0, densities=(1.0, 0.2, 0.05), n=5, m=2, decay=0.9):
    """How many features share two dimensions? The sparser they are, the more of them move in.

    Each feature is `decay` times as important as the one before. The best of four starts.
    """
    require(n > m, f"n must be larger than m, got n = {n} and m = {m}")
    numbers = {}
    slide, axes = new_slide(f"The sparser the features, the more of them share {m} dimensions",
                            columns=len(densities), rows=2, squeeze=False, height_ratios=(2, 1))
    for density, plane, row in zip(densities, axes[0], axes[1]):
        model = itf.pentagon_models(seed, density, decay, n, m)[0]
        tips = plane_of(model.model.W)
        for k in stored(model):
            plane.plot([tips[0, k], tips[0, k]], [0, tips[1, k]], ":", color="0.4", linewidth=2)
            arrow(plane, tips[:, k], ORANGE if k else GREEN)
            plane.text(1.25 * tips[0, k], 1.25 * tips[1, k], str(k), ha="center", va="center")
        plane.set(title=f"density {density:g}", aspect="equal", xlim=(-1.6, 1.6),
                  ylim=(-1.6, 1.6), **NO_AXES)
        numbers[f"stored at density {density:g}"] = len(stored(model))
        own = np.arange(n) == 0
        sticks(row, model.U[0], own, width=14)
        row.set(xticks=range(n), yticks=(), ylim=(-1.8, 1.8), xlabel="source j")
        row.spines["left"].set_visible(False)
    axes[1, 0].set_ylabel("row 0\nof U", rotation=0, ha="right", va="center")
    key(slide, green="feature 0: arrow, own weight", orange="others, and their shadow on arrow 0")
    numbers["own weight, last"] = model.U.diagonal().max()
    numbers["narrowest gap, last (degrees)"] = narrowest_gap(tips[:, stored(model)])
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
                        rng=seed, snapshots=FILM_STEPS, progress=itf.count_steps)
    of_large = tm.train(large, tm.identity_task(100, 0.02), FILM_STEPS[-1], rng=seed,
                        snapshots=FILM_STEPS, progress=itf.count_steps)
    return ({step: itf.read_only(of_small.snapshots[step]["W"]) for step in FILM_STEPS},
            {step: itf.read_only(of_large.snapshots[step]["W"]) for step in FILM_STEPS})


def film_picture(seed, step):
    """One picture of the film."""
    small, large = film(seed)
    U = large[step].T @ large[step]
    own = np.eye(100, dtype=bool)
    slide, (left, right) = new_slide("Each feature's own weight parts from the interference "
                                     f"(step {step:3})", columns=2)
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
    slide.numbers = {"own weight": U[own].mean(), "interference std": U[~own].std()}
    return slide


@figure("reproduced", "Toy Models of Superposition; the note")
def training(seed=0):
    """How do two kinds of weight come about? They part during training: watch the film."""
    return film_picture(seed, FILM_STEPS[-1])


@figure("known (Welch bound, leverage scores)", "Toy Models of Superposition, dimensionality")
def unavoidable(seed=0):
    """How much interference must a row of U have? At least 1 / share - 1 times its own square.

    A trained model for each case: density 1 (each stored feature has a dimension of its own), 0.2
    (two share one), 0.05 (five share two).
    """
    slide, ax = new_slide("The smaller a feature's share of a dimension, the more interference its "
                          "row must carry")
    slide.numbers = {}
    for place, (name, density) in enumerate({"alone": 1.0, "pair": 0.2, "pentagon": 0.05}.items()):
        model = itf.pentagon_models(seed, density, decay=0.9)[0]
        i = stored(model)[0]
        squares = (model.U[i] / model.U[i, i])**2
        least = 1 / itf.shares(model.U)[i]
        ax.bar(place, 1, 0.5, color=GREEN)
        ax.bar(place, squares.sum() - 1, 0.5, bottom=1, color=ORANGE)
        ax.plot([place - 0.35, place + 0.35], [least, least], **DERIVED)
        ax.text(place + 0.37, least, f"1 / share\n= {least:.2f}", va="center")
        slide.numbers[f"price times share, {name}"] = squares.sum() / least
    ax.set(xticks=range(3), xticklabels=["alone", "pair", "pentagon"], xlim=(-0.5, 2.8),
           ylim=(0, 2.9), ylabel="squares of a row, added up,\nover the own weight's square")
    key(slide, green="own weight, squared", orange="interference, squared and added up")
    return slide


# --- Chapter 2: two kinds of weights --------------------------------------------------------------

@figure("reproduced", "the note, figures 6 and 7")
def decomposition(seed=0):
    """Can U be split into circuit and interference? Yes; here two definitions agree."""
    model = itf.simple_model(seed)
    U = model.U
    real = model.is_real
    U_star, _ = itf.ideal_weights(U, model.b, model.task, rng=seed, progress=itf.count_steps)
    U_fixed, _ = itf.ideal_weights(U, model.b, model.task, rng=seed, only=("U",),
                                   progress=itf.count_steps)
    slide, axes = new_slide("What training left is the identity plus interference (8 of 100 "
                            "targets)", mosaic="UAB;UCD", subplot_kw=NO_AXES)
    drawn_rows(axes["U"], U, real, "the model: U")
    drawn_rows(axes["A"], U_star, real, "Definition 1: ideal U*")
    drawn_rows(axes["B"], U - U_star, real, "+ the difference")
    drawn_rows(axes["C"], U * real, real, "Definition 2: what helps")
    drawn_rows(axes["D"], U * ~real, real, "+ all others")
    key(slide, green="the diagonal: circuit, and real", orange="interference")
    slide.numbers = {"real on diagonal": np.diag(real).sum(), "real": real.sum(),
                     "U* off identity": np.abs(U_star - model.task.A).max(),
                     "U* diagonal, bias fixed": np.diag(U_fixed).mean()}
    return slide


def drawn_rows(ax, U, real, title):
    """The first 8 rows and 24 columns of a matrix as sticks, with a title."""
    sticks(ax, U[:8, :24], real[:8, :24], scale=1.3, width=7)
    ax.set(title=title, ylim=(-8, 1.6))


@figure("reproduced", "the note, figures 8, 9 and 14")
def weight_histograms(seed=0, steps=1000, density=0.3):
    """Could you tell real weights from interference by their size? In the simple model only."""
    simple = itf.simple_model(seed)
    block = itf.block_model(seed, density=density, steps=steps)
    slide, (left, right) = new_slide("Real weights stand apart in the simple model, but not once "
                                     "they have many sizes", columns=2)
    outlined_histogram(left, simple.U, simple.is_real)
    left.set(title="simple model", ylabel="number of weights")
    outlined_histogram(right, block.U, block.is_real)
    right.set(title="block model")
    key(slide, green="real: it helps", orange="all others")
    interference = block.U[~block.is_real]
    hidden = block.U[block.is_real] < np.quantile(interference, 0.99)
    tallest = itf.ranking(block.U)[:block.is_real.sum()]
    slide.numbers = {"real below the top 1 % of interference": hidden.mean(),
                     "real share of as many tallest": block.is_real.flat[tallest].mean(),
                     "real": block.is_real.sum(), "share that helps at all": np.mean(block.dL > 0)}
    return slide


def outlined_histogram(ax, U, real):
    """How many weights have which value: interference filled, real ones outlined, both visible."""
    bins = np.linspace(U.min(), U.max(), 41)
    ax.hist(U[~real], bins, color=ORANGE)
    ax.hist(U[real], bins, histtype="step", color=GREEN, linewidth=5)
    ax.set(yscale="log", ylim=(0.7, None), xlabel="virtual weight")


def typical_target(model):
    """A target of the block model whose tallest sticks are not all real, for `one_target`.

    Count the real weights of each target, k. Of the targets with k of 4 or more, this is the one
    whose k tallest weights include the fewest real ones.
    """
    wrong = np.full(len(model.U), -1)
    for i, real in enumerate(model.is_real):
        if real.sum() >= 4:
            tallest = itf.ranking(model.U[i])[:real.sum()]
            wrong[i] = np.count_nonzero(~real[tallest])
    return int(np.argmax(wrong))


@figure("reproduced, drawn anew", "the note, figure 12: base64")
def one_target(seed=0, target=None, vote=False, steps=1000, density=0.3):
    """Which of a target's 128 weights are real? Not simply the tallest.

    target: by default one whose tallest sticks are not all real. vote: show only the weights, with
    a letter on the ten tallest, for a class to guess.
    """
    model = itf.block_model(seed, density=density, steps=steps)
    require(target is None or target < 128, f"target must be in 0..127, got {target}")
    i = typical_target(model) if target is None else target
    real = model.is_real[i]
    tallest = itf.ranking(model.U[i])
    right = np.count_nonzero(real[tallest[:real.sum()]])
    lettered = np.sort(tallest[:10])
    if vote:
        slide, above = new_slide(f"Which of these ten weights are real? {real[lettered].sum()} are")
        above.vlines(range(128), 0, model.U[i], color="black", linewidth=6)
        above.axhline(0, color="0.5", linewidth=1)
        above.set(xlim=(-1, 133), xlabel="source j")
    else:
        but = "but only " if right < real.sum() else ""
        title = f"{real.sum()} of this target's 128 weights are real, {but}{right} of its " \
                f"{real.sum()} tallest"
        slide, (above, below) = new_slide(title, rows=2, sharex=True)
        sticks(above, model.U[i], real, width=9)
        sticks(below, 1000 * model.dL[i], real, width=9)
        below.set(xlim=(-1, 133), xlabel="source j", ylabel="helpful-\nness × 1000")
        key(slide, green="real: it helps", orange="all others")
    top = 1.35 * model.U[i].max()
    across = -5
    for letter, j in zip("ABCDEFGHIJ", lettered):
        across = max(j, across + 5)             # letters side by side, with a line to their stick
        above.annotate(letter, (j, model.U[i, j]), (across, top), ha="center", weight="bold",
                       arrowprops={"arrowstyle": "-", "color": "0.6"})
    above.set(ylabel="weight", ylim=(None, 1.25 * top))
    slide.numbers = {"real": real.sum(), "real among as many tallest": right}
    return slide


@figure("reproduced; what the start does, ours", "the note, figure 10")
def two_models(seed=0):
    """Does interference come back if you train again? Not from another start."""
    model = itf.simple_model(seed, converged=True)
    other = itf.simple_model(seed + 1, converged=True)
    same_start = itf.simple_model(seed + 1, start=seed, converged=True)
    interference = ~model.is_real
    slide, (left, right) = new_slide("Train again from another start: the real weights come back, "
                                     "interference does not", columns=2, sharex=True, sharey=True)
    dots(left, model.U, other.U, model.is_real)
    dots(right, model.U, same_start.U, model.is_real)
    r_other = correlation(model.U, other.U, interference)
    r_same = correlation(model.U, same_start.U, interference)
    left.set(title=f"another start: r = {r_other:.2f}", xlabel="weight", aspect="equal",
             ylabel="trained again")
    right.set(title=f"same start, new data: r = {r_same:.2f}", xlabel="weight", aspect="equal")
    key(slide, green="the diagonal", orange="interference (r is of these)")
    early = itf.simple_model(seed)
    early_other = itf.simple_model(seed, start=seed + 1)
    slide.numbers = {"r, another start": r_other, "r, same start, other data": r_same,
                     "own weight": model.U.diagonal().mean(),
                     "r, another start, 300 steps":
                         correlation(early.U, early_other.U, ~early.is_real)}
    return slide


@figure("reproduced; where it repeats, ours", "the note, figures 13 and 15")
def learned_vs_ideal(seed=0, steps=1000, density=0.3):
    """Did training find the circuit? It found most of it, too small, and interference besides."""
    model = itf.block_model(seed, density=density, steps=steps)
    again = itf.block_model(seed, run=1, density=density, steps=steps)
    A = model.task.A
    U = model.U
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
    both = model.live & again.live
    block = np.kron(np.eye(8), np.ones((16, 16))) > 0
    outside = A == 0
    slide.numbers = {"too small": np.mean(U[in_circuit] < A[in_circuit]),
                     "interference std": U[outside].std(),
                     "r of two runs, in A": correlation(U, again.U, in_circuit & both),
                     "r of two runs, inside blocks": correlation(U, again.U,
                                                                 block & outside & both),
                     "r of two runs, between blocks": correlation(U, again.U, ~block & both)}
    return slide


# --- Chapter 3: what a weight does ----------------------------------------------------------------

def slope_of(x):
    """What the law says of dL / F while the gate stays open, for x (B, n)."""
    return 2 * np.mean(x)**2 / np.mean(x**2) - 1


@figure("two branches, as in the sequel; the line is derived, ours", "the sequel, bifurcation plot")
def branches(seed=0, steps=1000, density=0.3):
    """Does a weight help? Its effectiveness sorts the two kinds; its size mixes them."""
    model = itf.block_model(seed, density=density, steps=steps)
    in_circuit = model.task.A > 0
    outside = ~in_circuit
    F = 1000 * model.F
    dL = 1000 * model.dL
    slope = slope_of(model.x)
    verb = "does harm" if slope < 0 else "helps"
    slide, (left, right) = new_slide(f"Interference {verb} in proportion to what it does, not to "
                                     "its size", columns=2, sharey=True)
    dots(left, F, dL, in_circuit, size=90)
    dots(right, np.abs(model.U), dL, in_circuit, size=90)
    most = 1.3 * F[outside].max()
    left.plot([0, most], [0, slope * most], **DERIVED, label=f"derived: slope {slope:.2f}")
    left.legend(loc="lower left" if slope < 0 else "upper left")
    bottom = 1.6 * min(dL[outside].min(), 0)
    top = -2 * bottom if slope < 0 else 1.3 * dL[outside].max()
    left.set(xlabel="effectiveness × 1000", ylabel="helpfulness × 1000", xlim=(0, most),
             ylim=(bottom, top))
    right.set(xlabel="size of the weight", xlim=(0, 0.85))
    beyond = np.count_nonzero((np.abs(model.U) > 0.85) | (dL > top))     # counted, not drawn
    right.text(0.83, 0.9 * bottom, f"{beyond} more lie beyond", ha="right")
    key(slide, green="in the circuit", orange="interference")
    live = outside & model.live
    slide.numbers = {"dL / F outside A": dL[outside].sum() / F[outside].sum(), "derived": slope,
                     "r of dL and F": correlation(dL, F, live),
                     "r of dL and U^2": correlation(dL, model.U**2, live)}
    return slide


@figure("derived, then measured; ours", "`predicted_helpfulness`")
def law(seed=0, densities=(0.1, 0.3, 0.5, 0.7, 0.9), kinds=("uniform", "binary")):
    """Which share of what interference does is help or harm? The features decide, as derived.

    For each kind and density a block model is trained. Mean ablation replaces a weight's source by
    its mean, not by 0 (4,096 examples).
    """
    title = "Whether interference does harm or helps is decided by the features"
    if "uniform" in kinds:
        title += "; without its mean it only does harm"
    slide, ax = new_slide(title)
    lines = {"uniform": (1.5, "o"), "binary": (2.0, "s")}        # rise of the derived line, marker
    numbers = {}
    means = []
    for kind in kinds:
        rise, marker = lines[kind]
        measured = []
        for density in densities:
            model = itf.block_model(seed, density=density, binary=kind == "binary")
            outside = model.task.A == 0
            ratio = model.dL[outside].sum() / model.F[outside].sum()
            measured.append(ratio)
            numbers[f"{kind}, density {density:g}"] = ratio
            if kind == "uniform":
                means.append(mean_ablation_ratio(model, outside))
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
    slide.numbers = numbers
    return slide


def mean_ablation_ratio(model, where):
    """dL / F of the weights `where`, if a weight's source is replaced by its mean."""
    x = model.x[:4096]
    y = model.y[:4096]
    dL = itf.helpfulness(model.U, model.b, x, y, mean=True)
    F = itf.effectiveness(model.U, model.b, x, mean=True)
    return dL[where].sum() / F[where].sum()


@figure("ours", "Optimal Brain Damage (LeCun, Denker, Solla 1989)")
def one_weight(seed=0):
    """Why does training leave harmful weights in? It cannot move one weight alone.

    Left: the loss of target 0 of the pentagon, if one interference weight were another. Right: the
    slope of the loss along each of the 25 virtual weights, and along each of the 10 numbers of W.
    """
    model = itf.pentagon_models(seed, density=0.05)[0]
    x, y = model.task.batch(tm.generator((seed, 5)), 2**18)
    u = model.U[0].astype(np.float64)
    j = np.argsort(u)[-2]                                        # the largest interference weight

    def error_with(value):
        """The mean squared error of target 0 if this weight had another value."""
        row = u.copy()
        row[j] = value
        return np.mean((tm.relu(x @ row + model.b[0]) - y[:, 0])**2)

    values = np.linspace(0, 1.6 * u[j], 40)
    errors = [error_with(value) for value in values]
    now = error_with(u[j])
    lifted = tm.LiftedModel(model.U, model.b)
    _, along_U = lifted.loss_and_gradients(x, y)
    _, along_W = model.model.loss_and_gradients(x, y)
    dU = np.abs(along_U["U"]).ravel()
    dW = np.sort(np.abs(along_W["W"]), axis=None)[::-1]
    order = np.argsort(-dU)
    own = np.eye(5, dtype=bool).flat[order]
    slide, (left, right) = new_slide("Most virtual weights would roll downhill, but none of them "
                                     "can move alone", columns=2)
    left.plot(values, 1000 * np.array(errors), color=ORANGE)
    left.plot(u[j], 1000 * now, "o", color="black", markersize=18)
    left.annotate("trained to here", (u[j], 1000 * now), (-30, 60), textcoords="offset points",
                  ha="right", arrowprops={"arrowstyle": "->", "lw": 2})
    left.set(xlabel="one interference weight", ylabel="error of target 0, × 1000")
    right.bar(range(25), 1000 * dU[order], 0.8, color=np.where(own, GREEN, ORANGE))
    right.bar(range(27, 37), 1000 * dW, 0.8, color="0.3")
    right.text(12, 1060 * dU.max(), "25 weights of U", ha="center")
    right.text(31.5, 1150 * dW.max(), "10 numbers\nof W", ha="center")
    right.set(xticks=(), ylabel="slope of the loss (size), × 1000", ylim=(0, 1180 * dU.max()))
    key(slide, green="a feature's own weight", orange="interference")
    slide.numbers = {"slopes of U over those of W (rms)": np.sqrt(np.mean(dU**2) / np.mean(dW**2)),
                     "error without it over now": errors[0] / now}
    return slide


# --- Chapter 4: finding the real weights ----------------------------------------------------------

@figure("reproduced; ERA × cosine, ours", "the note, figures 16 and 17")
def heuristics(seed=0, steps=300, density=0.3):
    """What finds real weights cheaply? ERA, and better still ERA times a cosine; not the weight."""
    model = itf.block_model(seed, density=density, steps=steps)
    slide, (left, right) = new_slide("Cheap scores find the top of the list, but not the rest",
                                     columns=2, sharey=True)
    numbers = {}
    for name, (words, line) in SCORES.items():
        if name == "cosine":                                     # is in `stages`
            continue
        score = model.scores[name]
        precision, recall = itf.precision_recall(score, model.is_real)
        left.plot(recall, precision, label=words, **line)
        right.plot(itf.loss_gain(score, model.dL), precision, **line)
        numbers[f"average precision, {words}"] = itf.average_precision(precision, recall)
    oracle = model.dL[model.is_real].sum()
    whole = model.dL.sum()
    right.axvline(whole, color="0.5", linewidth=2)
    right.text(0.97 * whole, 0.5, "all weights", ha="right")
    right.plot(oracle, 1, "*", color=GREEN, markersize=26, clip_on=False)
    right.text(0.97 * oracle, 1.06, "only real ones", ha="right", color=GREEN,
               bbox={"color": "white", "pad": 1})
    left.set(xlabel="recall", ylabel="precision", ylim=(0, 1.12), xlim=(0, 1))
    right.set(xlabel="loss gain: helpfulness, added up", xlim=(0, 1.05 * oracle))
    slide.legend(loc="outside lower center", ncols=3)
    real_at_a_tenth = model.dL > itf.THRESHOLD / 10
    low = {name: itf.average_precision(*itf.precision_recall(model.scores[name], real_at_a_tenth))
           for name in ("era", "frequency")}
    slide.numbers = numbers | {"all over oracle": whole / oracle,
                               "ERA less frequency, a tenth of the threshold":
                                   low["era"] - low["frequency"]}
    return slide


@figure("ours", "the note's question 'Can we beat this?'")
def stages(seed=0, density=0.3):
    """Which score is best? The cosine early, ERA late, and their product is never far from best."""
    models = itf.block_stages(seed, density=density)
    slide, ax = new_slide("The cosine ranks better early, ERA later; their product is never far "
                          "from the better one")
    numbers = {}
    for name in ("second_order", "era_cosine", "era", "cosine", "weight"):
        words, line = SCORES[name]
        areas = [models[steps].average_precision(name) for steps in STAGES]
        ax.plot(range(4), areas, marker="o", label=words, **line)
        numbers |= {f"{words}, {steps} steps": area for steps, area in zip(STAGES, areas)}
    lead = [numbers[f"ERA × cosine, {steps} steps"] - numbers[f"ERA, {steps} steps"]
            for steps in STAGES]
    numbers = {"lead of ERA × cosine over ERA, least": min(lead), **numbers}
    ax.set(xticks=range(4), xticklabels=[f"{steps:,}" for steps in STAGES], ylim=(0.3, 1.02),
           xlabel="training steps", ylabel="average precision")
    slide.legend(loc="outside right center")
    slide.numbers = numbers
    return slide


# --- Chapter 5: taking interference away ----------------------------------------------------------

def random_share(model, percent, where):
    """A random share of the weights `where`, in percent; larger ones hold the smaller: (n, n)."""
    places = np.flatnonzero(where)
    order = tm.generator((model.seed, 7)).permutation(places)
    chosen = np.zeros(where.size, bool)
    chosen[order[:round(percent / 100 * len(places))]] = True
    return chosen.reshape(where.shape)


@figure("expected by the note; measured and derived, ours", "the note, Appendix 4")
def crossover(seed=0, steps=1000, density=0.3, percents=(5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0)):
    """Do single effects add up? No: one by one these weights do harm, and together they help.

    Removed: a random share of the positive interference. Loss as a share of the whole model's.
    """
    model = itf.block_model(seed, density=density, steps=steps)
    positive = (model.task.A == 0) & (model.U > 0)
    measured = []
    derived = []
    added_up = []
    refitted = []
    for percent in percents:
        removed = random_share(model, percent, positive)
        U = np.where(removed, 0, model.U)
        change = itf.predicted_removal(model.U, model.b, model.x, removed)
        measured.append(itf.lifted_loss(U, model.b, model.x, model.y) / model.loss)
        refitted.append(itf.lifted_loss(U, model.b, model.x, model.y, refit_bias=True) / model.loss)
        derived.append(1 + change / model.loss)
        added_up.append(1 + model.dL[removed].sum() / model.loss)
    verb = "do harm" if model.dL[positive].sum() < 0 else "help"
    slide, ax = new_slide(f"One by one these weights {verb}; take all of them away, and the loss "
                          "rises")
    removed_percents = (0.0, *percents)
    ax.axhline(1, color="0.5", linewidth=1.5)
    ax.plot(removed_percents, [1, *measured], "o-", color=ORANGE,
            label="measured, biases as trained")
    ax.plot(removed_percents, [1, *derived], **DERIVED, label="derived: (mean)² − variance")
    ax.plot(removed_percents, [1, *added_up], ":", color="0.4", label="single effects added up")
    ax.plot(removed_percents, [1, *refitted], "s-", color="0.4", label="measured, biases refitted")
    ax.set(xlabel="positive interference removed (%)", ylabel="loss / the whole model's")
    ax.legend(loc="upper left")
    most = f"{percents[-1]:g} % removed"
    slide.numbers = {most: measured[-1], f"{most}, derived": derived[-1],
                     f"{most}, added up": added_up[-1], f"{most}, refitted": refitted[-1]}
    return slide


@figure("ours", "`best_bias`; the note's question of pruning")
def pruned_loss(seed=0, steps=1000, density=0.3,
                percents=(0.3, 0.45, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0)):
    """Is a model better without its interference? Yes, if its biases are refitted."""
    model = itf.block_model(seed, density=density, steps=steps)
    n_weights = model.U.size
    sizes = [max(1, round(percent / 100 * n_weights)) for percent in percents]
    slide, ax = new_slide("Keep 1 % of the weights and refit the biases: the model gets better")
    numbers = {}
    for name in ("weight", "era_cosine", "second_order"):
        words, line = SCORES[name]
        losses = [model.pruned(name, size, refit_bias=True) for size in sizes]
        ax.plot(percents, losses, marker="o", label=words, **line)
        numbers[f"1 % by {words}"] = model.pruned(name, n_weights // 100, refit_bias=True)
    random = tm.generator((seed, 7)).random(model.U.shape)
    ax.axhline(1, color="0.5", linewidth=1.5)
    ax.text(percents[-1], 1.01, "the whole model", ha="right", va="bottom")
    ax.set(xlabel="weights kept (%)", xscale="log", ylabel="loss / the whole model's",
           ylim=(None, 1.12), xticks=(0.3, 1, 3, 10), xticklabels=("0.3", "1", "3", "10"))
    ax.minorticks_off()
    ax.legend(loc="upper center", ncols=2)
    numbers["1 % at random"] = model.pruned(random, n_weights // 100, refit_bias=True)
    numbers["whole model, refitted"] = model.pruned("weight", n_weights, refit_bias=True)
    slide.numbers = numbers
    return slide


# --- Chapter 6: real text -------------------------------------------------------------------------

@figure("the sequel's findings, in a model of letters", "the sequel, size and bifurcation plots")
def letters_all(seed=0):
    """Which weights of a language model help? Their size does not say; what they do says a lot."""
    model = itf.letter_model(seed)
    U = itf.centred(model.virtual_weights())
    F, dL = itf.letter_effects(U, model.b, tm.letter_pairs())
    helps = dL > 0
    slide, (left, right) = new_slide("Size does not tell which weights help; the most effective "
                                     "ones nearly all do", columns=2, sharey=True)
    dots(left, U, 1000 * dL, helps, size=150)
    dots(right, 1000 * F, 1000 * dL, helps, size=150)
    top = 10                                                     # beyond it: counted, not drawn
    above = np.count_nonzero(1000 * np.maximum(F, dL) > top)
    right.plot([0, top], [0, top], **DERIVED, label="helpfulness = effectiveness")
    right.text(0.97 * top, -2.2, f"{above} more lie beyond", ha="right")
    right.legend(loc="lower right", bbox_to_anchor=(1.02, 0.1))
    name_pairs(left, ["qu"], U, 1000 * dL, height=12)
    name_pairs(left, loudest_wrong_pairs(U, 2), U, 1000 * dL, height=-32)
    left.set(xlabel="weight", ylabel="helpfulness × 1000", ylim=(-2.5, top))
    right.set(xlabel="effectiveness × 1000", xlim=(0, top))
    key(slide, green="helps", orange="does harm")
    largest = itf.ranking(U)[:50]
    effective = itf.ranking(F)[:50]
    slide.numbers = {"harmful, all": np.mean(dL < 0),
                     "harmful among the 50 largest": np.mean(dL.flat[largest] < 0),
                     "harmful among the 50 most effective": np.mean(dL.flat[effective] < 0),
                     "most effective over most effective harmful": F.max() / F[dL < 0].max()}
    return slide


def loudest_wrong_pairs(U, count):
    """The pairs that never come in English and have the largest weights, like "qh"."""
    wrong = np.where(tm.letter_pairs() == 0, U, -np.inf)
    places = np.unravel_index(np.argsort(-wrong, axis=None)[:count], U.shape)
    return [tm.LETTERS[j] + tm.LETTERS[i] for i, j in zip(*places)]


def name_pairs(ax, pairs, across, up, height):
    """Write pairs of letters, like "qu", above or below the point of the first."""
    j = tm.LETTERS.index(pairs[0][0])
    i = tm.LETTERS.index(pairs[0][1])
    ax.annotate(", ".join(pairs), (across[i, j], up[i, j]), (0, height), ha="center",
                textcoords="offset points")


@figure("the sequel's finding, in a model of letters", "the sequel, pruning")
def letters_pruned(seed=0):
    """Which weights can go? Most of them, if the least effective go first."""
    model = itf.letter_model(seed)
    U = itf.centred(model.virtual_weights())
    F, _ = itf.letter_effects(U, model.b, tm.letter_pairs())
    counts = np.unique(np.linspace(0, U.size, 28).astype(int))
    by_size = [letter_loss(itf.keep(U, np.abs(U), count), model.b) for count in counts]
    by_effect = [letter_loss(itf.keep(U, F, count), model.b) for count in counts]
    whole = letter_loss(U, model.b)
    slide, ax = new_slide("Most weights can go, if they go by what they do and not by their size")
    removed = 100 * (1 - counts / U.size)
    ax.plot(removed, by_size, "o-", color="0.6", label="smallest first")
    ax.plot(removed, by_effect, "o-", color=BLUE, label="least effective first")
    ax.axhline(whole, color="0.5", linewidth=1.5)
    ax.text(0, whole - 0.02, "the whole model", va="top")
    ax.set_ylim(2.3, None)
    ax.set(xlabel="weights removed (%)", ylabel="loss (nats per letter)")
    ax.legend(loc="upper left")
    slide.numbers = {"cost of the least effective 70 %":
                         letter_loss(itf.keep(U, F, round(0.3 * U.size)), model.b) - whole,
                     "100 kept by size": letter_loss(itf.keep(U, np.abs(U), 100), model.b),
                     "100 kept by effectiveness": letter_loss(itf.keep(U, F, 100), model.b),
                     "whole model": whole, "none kept": by_effect[0]}
    return slide


def letter_loss(U, b):
    """The cross-entropy of softmax(U x + b) on English letter pairs, in nats per letter."""
    pairs = tm.letter_pairs()
    y_hat = tm.softmax(U.T + b)                                  # (27, 27), row j: after letter j
    return float(-np.sum(pairs.T * np.log(y_hat)))


# --- The note's appendices and questions ----------------------------------------------------------

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
    slide.numbers = {"largest deviation": np.abs(ratios[1:] / derived - 1).max()}
    return slide


@figure("reproduced", "the note, Appendix 2")
def converged_geometry(seed=0):
    """What is interference made of after convergence? Of geometry, or of a sharp edge."""
    dense = itf.simple_model(seed, density=0.25, converged=True)
    sparse = itf.simple_model(seed, density=0.001, converged=True)
    W = dense.model.W[:, stored(dense)]
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
    model = itf.correlated_model(seed)
    U = model.U
    off = ~np.eye(200, dtype=bool)
    means = itf.set_mean_component(U, 100) * off
    same_set = np.kron(np.eye(2), np.ones((100, 100))) > 0
    slide, (left, right) = new_slide("Set means help while other interference is there; on the "
                                     "bare diagonal, only until biases are refitted", columns=2)
    bins = np.linspace(-1, 0.8, 61)
    inside = U[same_set & off]
    between = U[~same_set]
    left.hist(inside, bins, histtype="step", color=ORANGE, linewidth=5,
              label=f"same set, mean {inside.mean():+.2f}")
    left.hist(between, bins, histtype="step", color="0.4", linewidth=4, linestyle=":",
              label=f"other set, mean {between.mean():+.2f}")
    left.set(xlabel="interference weight", ylabel="number of weights")
    left.set_ylim(0, 1.45 * left.get_ylim()[1])
    left.legend(loc="upper left")
    variants = {"U\nless means": U - means, "diagonal\n+ means": U * ~off + means,
                "diagonal": U * ~off}
    whole = itf.lifted_loss(U, model.b, *model.fresh)
    numbers = {}
    for place, (name, V) in enumerate(variants.items()):
        trained = itf.lifted_loss(V, model.b, *model.fresh) / whole
        refitted = itf.lifted_loss(V, model.b, *model.fresh, refit_bias=True) / whole
        right.bar(place - 0.2, trained, 0.38, color="0.4")
        right.bar(place + 0.2, refitted, 0.38, color="0.75")
        words = name.replace("\n", " ")
        numbers[f"{words}, trained"] = trained
        numbers[f"{words}, refitted"] = refitted
    right.bar(0, 0, color="0.4", label="bias as trained")
    right.bar(0, 0, color="0.75", label="bias refitted")
    right.axhline(1, color="0.5", linewidth=1.5)
    right.set(xticks=range(3), xticklabels=variants, ylabel="loss / the whole model's")
    right.set_ylim(0, 1.6 * right.get_ylim()[1])
    right.legend(loc="upper right")
    slide.numbers = numbers | {"mean, same set": inside.mean(), "mean, other set": between.mean()}
    return slide


@figure("that they disagree, reproduced; the numbers ours", "the note, definitions and Appendix 4")
def definitions(seed=0, steps=1000, density=0.3):
    """Do the definitions agree on the block model? In part: they ask different questions."""
    model = itf.block_model(seed, density=density, steps=steps)
    in_circuit = model.task.A > 0
    U_star, _ = itf.ideal_weights(model.U, model.b, model.task, rng=seed, progress=itf.count_steps)
    mask, _ = itf.learned_mask(model.U, model.b, model.task, rng=(seed, 9),
                               progress=itf.count_steps)
    sets = {"the circuit A": in_circuit, "Definition 1: ideal": U_star > 0.05,
            "Definition 2: helps": model.is_real, "learned mask": mask > 0.5}
    slide, ax = new_slide("Definition 1 finds what the task asks for, the others what the model "
                          "uses")
    numbers = {}
    for place, (name, chosen) in enumerate(sets.items()):
        inside = np.count_nonzero(chosen & in_circuit)
        besides = np.count_nonzero(chosen & ~in_circuit)
        ax.barh(place, inside, 0.6, color=GREEN)
        ax.barh(place, besides, 0.6, left=inside, color=ORANGE)
        ax.text(inside + besides + 4, place, f"{inside}" + (f" + {besides}" if besides else ""),
                va="center")
        numbers[f"{name} finds of A"] = inside / in_circuit.sum()
    ax.set(xlabel="weights found", yticks=range(4), yticklabels=sets,
           ylim=(3.5, -0.5))                                     # the first one on top
    key(slide, green="in the circuit", orange="outside")
    slide.numbers = numbers
    return slide


@figure("ours", "the note's question 'Can we beat this?'")
def compressed_sensing(seed=0, steps=1000, density=0.3):
    """Can a sparse code undo the bottleneck? Of a linear map, yes; of a trained relu model, no.

    The linear map is A P: the circuit as the best linear read-out through the model's own
    directions would have it.
    """
    model = itf.block_model(seed, density=density, steps=steps)
    in_circuit = model.task.A > 0
    V = itf.row_space(model.U)
    linear = model.task.A @ V.T @ V
    areas = {}
    for name, U in {"linear map": linear, "trained model": model.U}.items():
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
    slide.numbers = {"linear map, weight": areas["linear map"][0],
                     "linear map, code": areas["linear map"][1],
                     "trained model, weight": areas["trained model"][0],
                     "trained model, code": areas["trained model"][1]}
    return slide


# --- The command line -----------------------------------------------------------------------------

def save(slide, seed, path):
    """Write one figure under another name, then rename it: nobody ever sees half a file.

    A path that ends in .gif gets the film, with the last line of the slide's title if that says
    what was set.
    """
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        if path.suffix == ".gif":
            _, line, settings = slide.get_suptitle().partition("\n")
            writer = PillowWriter(fps=3)
            with writer.saving(slide, part, dpi=100):
                for step in FILM_STEPS + 3 * FILM_STEPS[-1:]:    # the last picture stays
                    with matplotlib.style.context(STYLE, after_reset=True):
                        writer.fig = film_picture(seed, step)
                    writer.fig.suptitle(writer.fig.get_suptitle() + line + settings)
                    writer.grab_frame()
        else:                                   # without dates: the same bytes every time
            dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
            slide.savefig(part, metadata=dates.get(path.suffix))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def setting_from_text(name, text):
    """What the user wrote after KEY=, as a Python value: "0.5,0.1" is (0.5, 0.1), "yes" is True."""
    if name == "letter":
        return " " if text in ("space", "_") else text
    if name == "vote" and text.lower() in ("yes", "true", "no", "false"):
        return text.lower() in ("yes", "true")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        words = tuple(text.strip("[]()").split(","))
        return words if len(words) > 1 else text


def settings_of(name, pairs):
    """["densities=0.5,0.1"] -> {"densities": (0.5, 0.1)}, checked. Raises ValueError in words."""
    known = list(inspect.signature(FIGURES[name]).parameters)[1:]       # all but the seed
    settings = {}
    for pair in pairs:
        setting, equals, text = pair.partition("=")
        require(setting != "seed", "for another seed, use --seed")
        require(setting in known,
                f"{name} has no setting {setting}; it has: {', '.join(known) or 'none'}")
        require(equals and text, f"--set needs KEY=VALUE, got {pair!r}")
        require(setting not in settings, f"{setting} is set twice")
        settings[setting] = checked_setting(setting, setting_from_text(setting, text))
    return settings


def parse(arguments):
    """The command line. What cannot be done ends here, with one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Make the figures of the lesson.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures (default: all)")
    parser.add_argument("--list", action="store_true",
                        help="print each figure's question, status and source, and stop")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="default: figures; with "
                        "--set, or a seed other than 0: what_if")
    parser.add_argument("--format", choices=("png", "svg", "pdf"), default="png",
                        help="of all but the film, which is a gif")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="of all random numbers, 0 or more; default: 0")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="settings of one figure, such as densities=0.5,0.1,0.03; --list says "
                        "which it has")
    parser.add_argument("--show", action="store_true", help="open them in windows, at the end")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            require("=" not in name, f"did you mean --set {name}?")
            require(name in FIGURES, f"no figure named {name}; there are: {', '.join(FIGURES)}")
        tm.whole_number("--seed", options.seed, least=0)
        require(not options.set or len(options.names) == 1, "--set needs the name of one figure")
        require(not options.show or options.format == "png", "--show needs --format png")
        options.settings = settings_of(options.names[0], options.set) if options.set else {}
        is_what_if = options.set or options.seed
        options.out = options.out or pathlib.Path("what_if" if is_what_if else "figures")
        if not options.list:
            options.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options.names = options.names or list(FIGURES)
    return options


def file_name(name, options):
    """pentagon.png; with other settings or another seed pentagon-seed=1-n=6.png."""
    changed = changed_settings(FIGURES[name], {"seed": options.seed, **options.settings})
    parts = [name] + [f"{setting}={text}" for setting, text in changed.items()]
    suffix = "gif" if name == "training" else options.format
    return "-".join(parts) + f".{suffix}"


def list_figures():
    """Print the question, the status, the source and the settings of each figure."""
    for name, build in FIGURES.items():
        settings = ", ".join(list(inspect.signature(build).parameters)[1:]) or "none"
        print(f"{name:19} {inspect.getdoc(build).splitlines()[0]}")
        print(f"{'':19} {build.status} | {build.source} | settings: {settings}")


def make(name, options):
    """Make and save one figure. Returns its path and its headline, the first of its numbers."""
    path = options.out / file_name(name, options)
    slide = FIGURES[name](options.seed, **options.settings)
    save(slide, options.seed, path)
    headlines = [f"{label}: {value:.3g}" for label, value in slide.numbers.items()]
    return path, headlines[0] if headlines else "no numbers"


def main(arguments=None):
    """Make what the command line asks for; returns the exit code."""
    options = parse(arguments)
    if options.list:
        list_figures()
        return 0
    began = time.perf_counter()
    made = {}
    for k, name in enumerate(options.names, 1):
        start = time.perf_counter()
        try:
            made[name], outcome = make(name, options)
            outcome = f"{outcome} -> {made[name]}"
        except BadSetting as error:
            outcome = f"FAILED: {error}"
        except Exception as error:
            traceback.print_exc()               # whose line it was, and which
            outcome = f"FAILED: {type(error).__name__}: {error}"
        took = time.perf_counter() - start
        print(f"[{k:2}/{len(options.names)}] {name:19} {took:5.1f} s  {outcome}", flush=True)
    print(f"{len(made)} figures in {time.perf_counter() - began:.1f} s", flush=True)
    if options.show:
        show(made)
    return 0 if len(made) == len(options.names) else 1


def show(made):
    """Open the pictures in windows."""
    from matplotlib import pyplot
    for name, path in made.items():
        pyplot.figure(name, (12.8, 7.2)).figimage(pyplot.imread(path))
    pyplot.show()


def run():
    """`python plots.py`: main, and a quiet end where nobody reads what it prints."""
    try:
        return main()
    except BrokenPipeError:                     # `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:                    # a full disk as standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"plots.py: cannot write what it says: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(run())
