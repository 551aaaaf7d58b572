"""Every figure of the lesson, one function each, in reading order.

`python plots.py` makes all of them, `--help` says the rest. A builder takes a seed and settings and
returns (figure, numbers): a matplotlib Figure, and a dict of the numbers in it, the headline first.
Its docstring begins with a question and its answer; its decorator says what kind of claim it makes
and where that comes from ("the note": A Toy Model of Interference Weights).

One language from first to last: a weight is a stick, a row of U is one output, a matrix is stacked
rows. Real weights are dark green and thick, interference is orange and thin; help and harm are up
and down. Scores are black, grey, and blue for the best.
"""
import interference as itf  # before NumPy, as it sets the number of BLAS threads
import toymodel as tm

import argparse
import ast
import functools
import inspect
import os
import pathlib
import time
from types import MappingProxyType

import matplotlib.style
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

GREEN, ORANGE, BLUE = "#00664B", "#E69F00", "#0072B2"
STYLE = {"font.size": 15, "axes.titlesize": 16, "figure.titlesize": 18, "lines.linewidth": 3,
         "figure.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False,
         "svg.hashsalt": "interference weights"}
SCORES = {  # what a score is called, and how its curve is drawn
    "second_order": ("answers", {"color": "black"}),
    "all_three": ("all three", {"color": BLUE}),
    "era": ("ERA", {"color": "0.3"}),
    "cosine": ("cosine", {"color": "0.3", "ls": "--"}),
    "weight": ("weight", {"color": "0.6"}),
    "twera": ("TWERA", {"color": "0.5", "ls": "--"}),
    "frequency": ("frequency", {"color": "0.6", "ls": ":"})}
BARE = {"xticks": (), "yticks": (), "frame_on": False}
FIGURES = {}                                       # name -> builder, in reading order

# --- Drawing --------------------------------------------------------------------------------------

styled = matplotlib.style.context(STYLE, after_reset=True)     # whatever the user's settings are


class Slide(Figure):
    """A Figure for a 1280 x 720 projector that looks the same wherever it is shown."""

    draw = styled(Figure.draw)
    savefig = styled(Figure.savefig)


def figure(status, source):
    """Make a builder a figure of the lesson: in our style, its numbers plain, in FIGURES."""
    def decorate(builder):
        @functools.wraps(builder)
        @styled
        def build(seed=0, **settings):
            slide, numbers = builder(seed, **settings)
            return slide, {name: np.asarray(value).tolist() for name, value in numbers.items()}

        build.__doc__ = f"{builder.__doc__}\n\nStatus: {status}. Source: {source}."
        FIGURES[builder.__name__] = build
        return build
    return decorate


def new_slide(title, columns=1, rows=1, **options):
    """A Slide with its title and its axes, one or an array of them, or a dict for a mosaic."""
    slide = Slide(figsize=(12.8, 7.2), layout="constrained")
    slide.suptitle(title)
    if isinstance(columns, str):
        return slide, slide.subplot_mosaic(columns, **options)
    return slide, slide.subplots(rows, columns, **options)


def sticks(ax, U, real, scale=1.0, width=5, **labels):
    """Weights as sticks, the rows of a matrix stacked: real ones green and thick, others not."""
    U, real = np.atleast_2d(U, real)
    i, j = np.indices(U.shape)
    ax.hlines(-np.arange(len(U)), -0.6, U.shape[1] - 0.4, color="0.8", lw=1)
    for kind, color, lw in ((~real, ORANGE, width / 2), (real, GREEN, width)):
        ax.vlines(j[kind], -i[kind], scale * U[kind] - i[kind], color=color, lw=lw)
    ax.set(**labels)


def dots(ax, across, up, real, size=9, **labels):
    """One point for each weight, real ones green and on top; the line is where both are equal."""
    ax.axline((0, 0), slope=1, color="0.7", lw=1.5, zorder=0)
    for kind, color, area, mark in ((~real, ORANGE, size, "."), (real, GREEN, 4 * size, "^")):
        ax.scatter(across[kind], up[kind], area, color, marker=mark, alpha=0.6, lw=0)
    ax.set(**labels)


def histogram(ax, weights, real, bins, **labels):
    """How many weights have which value: interference orange, in front of it real ones green."""
    ax.hist(weights[~real], bins, color=ORANGE)
    ax.hist(weights[real], bins, color=GREEN)
    ax.set(ylabel="number of weights", yscale="log", ylim=(0.7, None))
    ax.set(**labels)


def curve(ax, x, y, name, at=-1, shift=(8, 0), align="left", **style):
    """A line with its name beside its point number `at`, `shift` points away."""
    at = max(at, -len(x))
    line, = ax.plot(x, y, **style)
    ax.annotate(name, (x[at], y[at]), shift, textcoords="offset points", color=line.get_color(),
                va="center", ha=align, weight="bold", fontsize=14)


def arrow(ax, tip, color, lw=4):
    """An arrow from the origin to a tip in the plane."""
    ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>,head_width=0.4", "lw": lw,
                                             "color": color, "shrinkA": 0, "shrinkB": 0})


# --- What several figures measure -----------------------------------------------------------------

def correlation(first, second, where):
    """Pearson's r of the entries of two matrices, where a third is true."""
    return float(np.corrcoef(first[where], second[where])[0, 1])


def live(trained):
    """Targets whose gate opens in more than 1 % of the examples, (n, 1) booleans."""
    return (np.mean(trained.x @ trained.U.T + trained.b > 0, axis=0) > 0.01)[:, None]


def free(trained):
    """Share of interference that source j alone never shows at target i: max(U_ij, 0) <= -b_i."""
    return np.mean((np.maximum(trained.U, 0) <= -trained.b[:, None])[~trained.is_real])


def stored(trained):
    """Indices of the features that a tied model represents: W_i longer than 1/2."""
    return np.flatnonzero(np.linalg.norm(trained.model.W, axis=0) > 0.5)


def predicted(trained):
    """`predicted_effects` of a model."""
    return itf.predicted_effects(trained.U, trained.b, trained.x, trained.task.A)


# --- Chapter 1: sparse features share dimensions --------------------------------------------------

@figure("reproduced, drawn anew", "the note")
def one_output(seed, vote=False):
    """Which of an output's 128 weights are circuit? A few, and the rest can go.

    The output with most sources in A, and the first example that turns on half of its real ones.
    vote: only what the model shows, for a class to guess.
    """
    model = itf.block_model(seed)
    A, U, b, x, y = model.task.A, model.U, model.b, model.x, model.y
    i = np.argmax((A > 0).sum(axis=1))
    real, score = model.is_real[i], model.scores["all_three"]
    if vote:
        slide, ax = new_slide("One output's 128 weights: which of them are circuit?")
        ax.vlines(range(128), 0, U[i], color="black", lw=4)
        ax.set(xlim=(-1, 128), xlabel="source j", yticks=())
        return slide, {"real": real.sum()}
    alone = np.eye(128)[i]                                       # only this output counts
    before = itf.lifted_loss(U, b, x, y, importance=alone)
    after = itf.lifted_loss(U * real, b, x, y, importance=alone, refit_bias=True)
    example = x[np.argmax(np.mean(x[:, real] > 0, axis=1) >= 0.5)]
    strips = {"A\nthe task": A[i], "U\nthe model": U[i], "\u0394L\nif one is\nremoved": model.dL[i],
              "score\nall three": np.maximum(score[i] - np.median(score), 0),
              "U x\none\nexample": U[i] * example}
    slide, axes = new_slide(f"Of 128 weights {real.sum()} are real. Keep those, refit the bias: "
                            f"error {before:.3f} \u2192 {after:.3f}", 1, 5, sharex=True)
    for ax, (name, row) in zip(axes, strips.items()):
        ax.axvspan(i // 16 * 16 - 0.5, i // 16 * 16 + 15.5, color="0.94")
        sticks(ax, row, real, width=7, xlim=(-1, 128), yticks=())
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=14)
        ax.spines["left"].set_visible(False)
    axes[-1].set_xlabel("source j (green: real; orange: interference; grey: the output's block)")
    return slide, {"error left": after / before, "real": real.sum()}


FILM_STEPS = (0, 30, 60, 90, 120, 150, 180, 220, 260, 300, 400, 600)


@functools.cache
def film(seed):
    """W of a pentagon and of a simple model at FILM_STEPS of their training: two dicts by step."""
    runs = []
    for n, m, density, rate, scale in ((5, 2, 0.05, 1e-2, 0.3), (100, 20, 0.02, 1e-3, None)):
        model = tm.TiedModel.initialise(tm.generator(seed), n, m, scale)
        history = tm.train(model, tm.identity_task(n, density), FILM_STEPS[-1], learning_rate=rate,
                           seed=seed, snapshots=FILM_STEPS, progress=itf.counter)
        runs.append(MappingProxyType(
            {step: itf.read_only(p["W"]) for step, p in history.snapshots.items()}))
    return tuple(runs)


@figure("reproduced", "Toy Models of Superposition; the note")
def training(seed, step=FILM_STEPS[-1]):
    """How do a pentagon and two kinds of weight come about? By parting: watch the film."""
    small, large = (run[step] for run in film(seed))
    U, diagonal = large.T @ large, np.eye(100, dtype=bool)
    slide, (left, right) = new_slide(f"training step {step:3}", 2)
    for tip in small.T:
        arrow(left, tip, "black")
    left.set(title="5 features in 2 dimensions", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal",
             **BARE)
    histogram(right, U, diagonal, np.linspace(-1, 1.5, 51), title="100 features in 20 dimensions",
              ylim=(0.7, 20000), xlabel="virtual weight (green: the diagonal)")
    return slide, {"diagonal": U[diagonal].mean(), "interference std": U[~diagonal].std()}


@figure("a definition, with a trained pentagon's numbers", "the note, introduction")
def circuit(seed):
    """What is a virtual weight? The sum over all paths from a source to a target."""
    W = itf.pentagon_models(seed, 0.05, 1.0)[0][1].model.W
    W = W[:, np.argsort(np.arctan2(W[1], W[0]))]                 # in the order of their angles
    U, heights, middles, j = W.T @ W, np.linspace(1, 0, 5), (0.72, 0.28), 1
    slide, (small, lifted) = new_slide("All paths from a source to a target add up to one weight",
                                       2, subplot_kw=BARE | {"xlim": (-0.25, 2.25)})
    small.set_title("the model: through two dimensions")
    lifted.set_title("lifted: one virtual weight for each pair")
    for height in heights:
        small.plot([0, 1, 2], [[height] * 2, middles, [height] * 2], color="0.88", lw=1.5)
        lifted.plot([0, 2], [[height] * 5, heights], color="0.88", lw=1.5)
    white = {"ha": "center", "bbox": {"color": "white", "pad": 1}}
    for k, middle in enumerate(middles):
        small.plot([0, 1], [heights[j], middle], color="black")
        small.text(0.5, (heights[j] + middle) / 2, f"{W[k, j]:+.2f}", **white)
    for i, color, lw in ((3, ORANGE, 3), (1, GREEN, 6)):
        for k, middle in enumerate(middles):
            small.plot([1, 2], [middle, heights[i]], color=color, lw=lw)
            small.text(1.55, 0.45 * middle + 0.55 * heights[i], f"{W[k, i]:+.2f}", **white)
        lifted.plot([0, 2], heights[[j, i]], color=color, lw=lw)
        paths = " ".join(f"{path:+.3f}" for path in W[:, j] * W[:, i])
        lifted.text(1.15, 0.42 * heights[j] + 0.58 * heights[i] + 0.09,
                    f"$U_{{{i}{j}}}$ = {paths} = {U[i, j]:+.3f}", **white)
    for ax, across, name in ((small, 0, "x"), (small, 1, "h"), (small, 2, "z"), (lifted, 0, "x"),
                             (lifted, 2, "z")):
        for k, height in enumerate(middles if name == "h" else heights):
            ax.text(across, height, f"${name}_{k}$", ha="center", va="center", fontsize=18,
                    bbox={"boxstyle": "circle", "fc": "w", "lw": 2})
    return slide, {"sum over paths": W[:, j] @ W[:, 3], "U": U[3, j]}


@figure("reproduced", "Toy Models of Superposition, introduction")
def pentagon(seed, densities=(1, 0.2, 0.05), decay=0.9):
    """How do 5 features share 2 dimensions? The sparser they are, the more of them move in.

    Importance falls by `decay` from each to the next; the best of four starts.
    """
    slide, axes = new_slide("The sparser, the more of them share. Shadows on arrow 0 are row 0 of "
                            "U", len(densities), 2, squeeze=False)
    for density, plane, rows in zip(densities, *axes):
        model = itf.pentagon_models(seed, density, decay)[0][1]
        W = model.model.W
        e = W[:, 0] / np.linalg.norm(W[:, 0])                    # turn arrow 0 to the right
        W = np.array([[e[0], e[1]], [-e[1], e[0]]]) @ W
        for k in stored(model):
            plane.plot([W[0, k]] * 2, [0, W[1, k]], ":", color="0.4", lw=2)
            arrow(plane, W[:, k], ORANGE if k else GREEN)
            plane.text(*(1.22 * W[:, k]), str(k), ha="center", va="center", weight="bold")
        plane.axhline(0, color=GREEN, lw=1)
        plane.set(title=f"density {density:g}: {len(stored(model))} stored", aspect="equal",
                  xlim=(-1.6, 1.6), ylim=(-1.5, 1.5), **BARE)
        sticks(rows, model.U, model.is_real, 0.42, 12, xticks=range(5), yticks=-np.arange(5),
               yticklabels=[f"row {i}" for i in range(5)], xlabel="source j", ylim=(-4.6, 0.7))
    angles = np.sort(np.degrees(np.arctan2(W[1], W[0])[stored(model)]))
    gaps = np.diff(angles, append=angles[0] + 360)
    return slide, {"narrowest gap (degrees)": gaps.min(), "diagonal": model.U.diagonal().max()}


@figure("derived; how near, and what the relu leaves: ours", "Toy Models; Persona Vectors (2025)")
def price_of_sharing(seed, densities=(0.25, 0.1, 0.02, 0.001)):
    """What does it cost to share a dimension? At least 1 / share, and training comes near."""
    slide, (shapes, near, steered) = new_slide("No read-out pays less than 1 / its share", 3)
    for place, k in enumerate((1, 2, 5)):                        # k arrows, evenly spread
        squares = np.cos(2 * np.pi * np.arange(k) / k)**2
        for j, square in enumerate(squares):
            shapes.bar(place, square, 0.7, squares[:j].sum(), color=ORANGE if j else GREEN, ec="w")
        shapes.text(place, squares.sum() + 0.05, f"{squares.sum():.3g}", ha="center", weight="bold")
    shapes.set(xticks=range(3), xticklabels=["alone", "pair", "pentagon"], ylim=(0, 2.9),
               title="row of U, squared: the price", ylabel="$|U_i|^2 / U_{ii}^2$")
    numbers = {"mean price": itf.price(itf.simple_model(seed).U).mean()}
    for name, model, at, up, color, line in (
            ("tied", itf.simple_model(seed), 50, -14, "0.6", "-"),
            ("untied, density 0.1", itf.untied_model(seed, 0.1), 88, 16, "0.3", "--"),
            ("untied, density 0.02", itf.untied_model(seed, 0.02), 75, 16, "black", "-")):
        over = np.sort(itf.price(model.U) * itf.shares(model.U))
        curve(near, range(100), over, name, at, (0, up), "right", color=color, ls=line)
        numbers[f"price times share, {name}"] = np.median(over)
    near.axhline(1, color="black", lw=1)
    near.set(title="price times share (least: 1)", xlabel="feature, sorted", ylim=(0.9, 2))
    effects = []
    for density in densities:
        model = itf.simple_model(seed, density, converged=True)
        effects.append(np.mean([itf.steering_side_effects(model.model, model.x, j)
                                for j in stored(model)[::9]], axis=0))
        numbers[f"side effects at {density:g}"] = effects[-1][1]
    before, after = np.transpose(effects)
    for words, effect, color in (("before the relu", before, "0.5"), ("after it", after, "black")):
        curve(steered, densities, effect, words, -2, (-4, 16), "right", color=color, marker="o")
    steered.set(title="side effects of steering, tied", xscale="log", ylim=(0, 5),
                xlabel="density of features", xticks=densities, xticklabels=densities)
    steered.minorticks_off()
    return slide, numbers


# --- Chapter 2: so weights share too --------------------------------------------------------------

@figure("reproduced", "the note")
def decomposition(seed):
    """Can U be split into real and interference weights? Yes, and here two definitions agree."""
    model = itf.simple_model(seed)
    U, real, start = model.U, model.is_real, (model.U, model.b, model.task)
    U_star, _ = itf.ideal_weights(*start, seed=seed, progress=itf.counter)
    U_fixed, _ = itf.ideal_weights(*start, seed=seed, only=("U",), progress=itf.counter)
    slide, axes = new_slide("What training left is a diagonal and interference, by both "
                            "definitions", "Urs;Utu", subplot_kw=BARE)
    parts = (("U: every row is one output", U),
             ("= U*, the ideal (Definition 1)", U_star), ("+ interference", U - U_star),
             ("= real by loss (Definition 2)", real * U), ("+ interference", ~real * U))
    for ax, (title, part) in zip(axes.values(), parts):          # drawn: a corner of 16 x 16
        sticks(ax, part[:16, :16], real[:16, :16], 1.1, 7, title=title)
    return slide, {"real on diagonal": np.diag(real).sum(), "real": real.sum(),
                   "U* off identity": np.abs(U_star - model.task.A).max(),
                   "U* diagonal, bias fixed": np.diag(U_fixed).mean()}


@figure("reproduced", "the note; Towards Monosemanticity (2023), its Hebrew and base64 features")
def weight_histograms(seed):
    """Could one tell from the weights alone? In the simple model yes; with many sizes, no."""
    simple, block = itf.simple_model(seed), itf.block_model(seed)
    slide, axes = new_slide("A bump apart from the bulk, but only while real weights have one size",
                            2, 2, sharex="col")
    most = np.argmax((block.task.A > 0).sum(axis=1))             # the row that `one_output` shows
    for (top, row), model, i, name in zip(axes.T, (simple, block), (0, most), ("simple", "block")):
        bins = np.linspace(model.U.min(), model.U.max(), 51)
        histogram(top, model.U, model.is_real, bins, title=f"{name} model: all its weights")
        histogram(row, model.U[i], model.is_real[i], bins, title=f"row {i}: one output",
                  xlabel="virtual weight")
    hidden = block.U[block.is_real] < np.quantile(block.U[~block.is_real], 0.99)
    return slide, {"real below the top 1 % of interference": hidden.mean(), "free": free(simple)}


@figure("reproduced; what the start does, ours", "the note")
def two_models(seed):
    """Does interference repeat when a model is trained again? Not from another start."""
    early, late = itf.simple_model, functools.partial(itf.simple_model, converged=True)
    pairs = {"another start, 300 steps": (early(seed), early(seed, start=seed + 1)),
             "another start, 3000 steps": (late(seed), late(seed + 1)),
             "same start, other data": (late(seed), late(seed + 1, start=seed))}
    slide, axes = new_slide("Train again from another start: the real weights come back, "
                            "interference does not", 3, sharex=True, sharey=True)
    numbers = {}
    for ax, (name, (one, again)) in zip(axes, pairs.items()):
        numbers[f"r, {name}"] = r = correlation(one.U, again.U, ~one.is_real)
        dots(ax, one.U, again.U, one.is_real, 6, title=f"{name}\nr = {r:.2f}", aspect="equal",
             xlabel="U", ylabel="U, trained again")
    return slide, numbers


@figure("reproduced; where it repeats, ours", "the note")
def learned_vs_ideal(seed):
    """Did training find the circuit, and does interference repeat? Smaller; inside blocks."""
    model, again = itf.block_model(seed), itf.block_model(seed, 1)
    A, U, real = model.task.A, model.U, model.is_real
    block, both = np.kron(np.eye(8), np.ones((16, 16))) > 0, live(model) & live(again)
    inside = block & (A == 0) & both
    slide, axes = new_slide("Learned too small; what repeats is inside the blocks", 2, 2)
    left, *runs = axes.T.flat
    dots(left, A[A > 0], U[A > 0], real[A > 0], 25, xlabel="ideal weight A", ylabel="U")
    left.text(0.98, 0.42, "shrinkage", ha="right", weight="bold")
    left.text(0.4, -0.14, "unlearned", ha="right", weight="bold")
    numbers = {}
    for ax, place, where in ((runs[0], "in A", (A > 0) & both),
                             (runs[1], "inside blocks, not in A", inside),
                             (runs[2], "between blocks", ~block & both)):
        numbers[f"r, {place}"] = r = correlation(U, again.U, where)
        dots(ax, U[where], again.U[where], real[where], 20, title=f"{place}: r = {r:.2f}",
             xlabel="U", ylabel="U, run 2", xlim=(-0.4, 1.1), ylim=(-0.4, 1.1))
    return slide, {**numbers, "too small": np.mean(U[A > 0] < A[A > 0]),
                   "r of A A^T A and both runs": correlation(A @ A.T @ A, U + again.U, inside),
                   "targets that hardly fire": np.sum(~live(model))}


# --- Chapter 3: what each weight does -------------------------------------------------------------

@figure("ours", "Optimal Brain Damage (LeCun, Denker, Solla 1990)")
def one_weight(seed):
    """Why does training leave harmful weights in? It cannot move one weight alone.

    The loss of one output of the pentagon if one weight were another: exact, and as a parabola.
    """
    model, block = itf.pentagon_models(seed, 0.05, 1.0)[0][1], itf.block_model(seed)
    u, x, y = model.U[0].astype(float), model.x, model.y[:, 0]
    z = x @ u + model.b[0]
    now, gate = 1000 * np.mean((tm.relu(z) - y)**2), z > 0
    slide, axes = new_slide("Training has ended, and no slope is 0: a weight cannot move alone", 2)
    for ax, j, name, color in zip(axes, (0, np.argsort(u)[-2]), ("real", "interference"),
                                  (GREEN, ORANGE)):
        values = np.linspace(0, 1.15 * u[j], 60)
        step = values - u[j]
        exact = [1000 * np.mean((tm.relu(z + s * x[:, j]) - y)**2) for s in step]
        slope = 2000 * np.mean(gate * (z - y) * x[:, j])
        line = now + slope * step
        parabola = line + 1000 * np.mean(gate * x[:, j]**2) * step**2
        curve(ax, values, exact, "exact", 5, (0, -22), color=color, lw=6)
        curve(ax, values, parabola, "parabola: gates held", 14, (12, 14), color="black", ls="--")
        curve(ax, values[35:], line[35:], f"slope {slope:+.1f}", 0, (-8, 8), "right", color="0.4")
        ax.plot(u[j], now, "o", color=color, mec="black", ms=16, zorder=5)
        ax.set(title=f"{name} weight, trained to {u[j]:.2f}", xlabel="if it were")
    axes[0].set_ylabel("error of output 0, \u00d7 1000")
    estimate, of_block = (itf.second_order_effects(m.U, m.b, m.x, m.y) for m in (model, block))
    outside = block.task.A == 0
    wrong = ((estimate > 0) != (model.dL > 0))[(model.U > 0) & ~model.is_real]
    return slide, {"parabola of the wrong sign": wrong.mean(),
                   "harm that it sees, block": of_block[outside].sum() / block.dL[outside].sum()}


@figure("derived, then measured; ours", "`predicted_effects`")
def law(seed, densities=(0.3, 0.5, 0.6, 0.65, 0.7, 0.75, 0.9)):
    """Can one know without an ablation what a weight does? Outside the circuit, nearly.

    Models of other densities are trained like the block model. Helping: of effects above 0.001.
    """
    model = itf.block_model(seed)
    outside = model.task.A == 0
    derived, exact = 1000 * predicted(model)[outside], 1000 * model.dL[outside]
    slope = derived @ exact / (derived @ derived)
    slide, (left, right) = new_slide("Outside the circuit a weight does harm, as its square; above "
                                     "density 2/3, help", 2)
    end = np.array([derived.min(), 0])
    left.plot(derived, exact, ".", color=ORANGE, ms=6, rasterized=True)
    curve(left, end, end, "as derived", 0, (12, 0), color="black", lw=1.5)
    curve(left, end, slope * end, f"slope {slope:.2f}:\nthe relu hides the rest", 0, (0, 200),
          color="black", ls=":")
    left.set(xlabel=r"derived $\Delta L \times 1000$:  $-q\,(\sigma^2 - \mu^2)\,U^2$",
             ylabel=r"exact $\Delta L \times 1000$", title=f"{outside.sum()} weights outside A")
    numbers = {"r outside A": correlation(predicted(model), model.dL, outside), "slope": slope,
               "r of -U^2 alone": correlation(-model.U**2, model.dL, outside)}
    models = [itf.block_model(seed, 0, density) for density in densities]
    sums = [other.dL[outside].sum() for other in models]
    formula = [predicted(other)[outside].sum() for other in models]
    curve(right, densities, formula, "derived", 0, (16, -6), color="black", ls=":")
    curve(right, densities, sums, "measured", 0, (-8, 26), color=ORANGE, marker="o", ms=12)
    large = [other.dL[outside & (np.abs(other.dL) > 1e-3)] for other in models]
    numbers |= {f"helping at density {s:g}": np.mean(e > 0) for s, e in zip(densities, large)}
    right.axhline(0, color="black", lw=1)
    right.axvline(2 / 3, color="black", lw=1)
    right.text(0.655, max(sums), "E[x]\u00b2 = Var x\nat density 2/3", ha="right", va="top")
    right.set(xlabel="density of features", title="all their effects, summed: harm, then help")
    return slide, numbers | {"where the sum turns": np.interp(0, sums, densities)}


# --- Chapter 4: what finds the circuit ------------------------------------------------------------

@figure("reproduced", "the note, its figures on heuristics")
def heuristics(seed):
    """What finds real weights? Scores from activations find some, answers nearly all."""
    model = itf.block_stages(seed)[300]
    slide, (left, right) = new_slide("Cheap scores find the top, not the tail", 2, sharey=True)
    numbers = {}
    for name, place, shift in (("frequency", 0.16, (-4, 18)), ("twera", 0.13, (2, 12)),
                               ("weight", 0.27, (-62, -2)), ("era", 0.5, (6, 6)),
                               ("second_order", 0.85, (-80, -12))):
        words, line = SCORES[name]
        precision, recall = itf.precision_recall(model.scores[name], model.is_real)
        numbers[f"average precision, {words}"] = model.average_precision(name)
        curve(left, recall, precision, words, np.searchsorted(recall, place), shift, **line)
        right.plot(itf.loss_gain(model.scores[name], model.dL), precision, **line)
    oracle, whole = model.dL[model.is_real].sum(), model.dL.sum()
    right.axvspan(whole, oracle, color="0.93")
    right.axvline(whole, color="black", lw=2, ls=":")
    right.plot(oracle, 1, "k*", ms=22)
    right.axhline(0.8, color="0.7", lw=1.5, zorder=0)
    right.text(oracle, 1.04, "oracle", ha="right")
    right.text(whole / 3, 0.81, "80 % precision")
    right.text(0.98 * whole, 0.13, "same loss as\nthe original", ha="right", rotation=90)
    left.set(title="what is found after 300 steps", ylim=(0, 1.1),
             xlabel="recall: share of the real weights that is kept",
             ylabel="precision: share of what is kept that is real")
    right.set(xlabel="loss gain: sum of \u0394L over what is kept", title="what it is worth")
    return slide, numbers | {"all over oracle": whole / oracle}


@figure("ours", "the note's question 'Can we beat this?'")
def beyond(seed):
    """Can we beat this? Once the model has learned: directions and activations together do.

    Blurred: A as the best linear read-out would have it. In brackets: what a score needs.
    """
    models = itf.block_stages(seed)
    A, V = models[1000].task.A, itf.row_space(models[1000].U)
    blurred = A @ V.T @ V
    slide, axes = new_slide("A sparse code sharpens what the bottleneck has blurred; all three "
                            "lead once learned", "ABBBB;PBBBB;CBBBB")
    block, numbers = (slice(16, 32), slice(16, 32)), {}
    for panel, name, part in (("A", "a block of A", A), ("P", "blurred", blurred),
                              ("C", "its sparse code", itf.code_score(blurred))):
        numbers[name] = itf.average_precision(*itf.precision_recall(part, A > 0))
        sticks(axes[panel], part[block] / part.max(), A[block] > 0, 1.2,
               title=f"{name}: {numbers[name]:.2f}", **BARE)
    ladder = "weight", "era", "cosine", "all_three", "second_order"
    for steps, color in ((300, "0.6"), (1000, "black")):
        areas = [models[steps].average_precision(name) for name in ladder]
        curve(axes["B"], range(5), areas, f"{steps} steps", 0, (0, 26), color=color, marker="o")
        numbers |= {f"{SCORES[name][0]} at {steps}": area for name, area in zip(ladder, areas)}
    axes["B"].set(title="average precision", xlim=(-0.3, 4.4), ylim=(0, 1.04), xticks=range(5),
                  xticklabels=("weight\n(nothing)", "ERA\n(examples)", "cosine\n(directions)",
                               "all three\n(both)", "answers\n(answers)"))
    return slide, numbers


# --- Chapter 5: taking interference away ----------------------------------------------------------

@figure("derived and measured; ours", "`predicted_effects`")
def stages(seed):
    """Where does interference go? Training removes what the relu lets through, not what it hides.

    Weights outside A, of targets whose gate opens in more than 1 % of the examples.
    """
    models, numbers, areas = list(itf.block_stages(seed).values()), {}, {}
    slide, (found, size, harm) = new_slide("Training halves the interference that the relu lets "
                                           "through; the rest grows behind it", 3)
    for name in ("second_order", "all_three", "era", "weight", "cosine"):
        areas[name] = np.array([model.average_precision(name) for model in models])
        curve(found, range(4), areas[name], SCORES[name][0], marker="o", **SCORES[name][1])
    outside = models[0].task.A == 0
    for word, sign, line in (("positive", 1, "-"), ("negative", -1, "--")):
        where = [outside & (sign * model.U > 0) & live(model) for model in models]
        rms = [np.sqrt(np.mean(model.U[those]**2)) for model, those in zip(models, where)]
        measured = np.array([-model.dL[those].sum() for model, those in zip(models, where)])
        derived = [-predicted(model)[those].sum() for model, those in zip(models, where)]
        curve(size, range(4), rms, word, color=ORANGE, ls=line, marker="o")
        curve(harm, range(4), measured, word, color=ORANGE, ls=line, marker="o")
        curve(harm, range(4), derived, "derived", 2, (-8, 6), "right", color="black", ls=":")
        numbers |= {f"{word}: last size over first": rms[-1] / rms[0],
                    f"{word}: harm over derived, least": min(measured / derived),
                    f"{word}: harm over derived, most": max(measured / derived)}
    for ax, bottom, title in ((found, 0.3, "average precision"), (harm, 0, "its harm, summed"),
                              (size, 0, "size of interference (rms)")):
        ax.set(title=title, xticks=range(4), xticklabels=("300", "1k", "3k", "10k"),
               xlim=(-0.2, 4.6), ylim=(bottom, None), xlabel="training steps")
    leads = areas["all_three"] - np.maximum(areas["era"], areas["cosine"])
    large = [model.dL[outside & (np.abs(model.dL) > 1e-3)] for model in models]
    pruned = [model.pruned("weight", refit_bias=True) for model in models]
    return slide, {**numbers, "least lead of all three, later": leads[1:].min(),
                   "large effects outside A that harm, least": min(np.mean(e < 0) for e in large),
                   "pruned by weight, refitted, most": max(pruned)}


@figure("derived and measured; ours", "the note, Appendix 4: gains do not simply add up")
def pruned_loss(seed, steps=1000, sizes=(50, 75, 100, 150, 200, 300, 450, 600, 800, 1000)):
    """Does taking interference away make a model better? Yes, by as much as derived."""
    model = itf.block_stages(seed)[steps]
    U, real = model.U, int(model.is_real.sum())

    def derived(count, refit_bias=True):
        kept = itf.keep(U, U, count) != 0
        change = itf.predicted_pruning(U, model.b, model.x, model.task.A, kept, refit_bias)
        return 1 + change / model.loss

    slide, ax = new_slide("Keep the best 1 %, refit each bias: the lifted model gets better")
    numbers = {}
    for name, shift in (("weight", 14), ("all_three", -14), ("second_order", -14)):
        words, line = SCORES[name]
        losses = [model.pruned(name, size, refit_bias=True) for size in sizes]
        curve(ax, sizes, losses, words, -3, (0, shift), "center", marker="o", **line)
        numbers[f"by {words}"] = model.pruned(name, refit_bias=True)
    curve(ax, sizes, [derived(size) for size in sizes], "weight, derived", -5, (0, -12), "center",
          color="black", ls="--", lw=1.5)
    ax.axhline(1, color="black", lw=1, zorder=0)
    ax.axvline(real, color=GREEN, lw=1.5)
    random = model.pruned(tm.generator((seed, 7)).random(U.shape), refit_bias=True)
    ax.text(real + 8, 1.01, f"{real} are real; as many at random: {random:.2f}")
    ax.text(sizes[-1], 1.01, "the whole model", ha="right")
    ax.set(xlabel=f"weights kept, of {U.size}", ylabel="loss / the whole model's")
    removed = itf.keep(U, U, real) == 0
    return slide, {**numbers, "by weight, derived": derived(real), "at random": random,
                   "whole, refitted": model.pruned("weight", U.size, refit_bias=True),
                   "trained bias": model.pruned("weight"),
                   "trained bias, derived": derived(real, refit_bias=False),
                   "trained bias, effects added up": 1 + model.dL[removed].sum() / model.loss}


@figure("ours", "the graphs: Circuit Tracing (2025)")
def one_example(seed):
    """What makes the graph of one example clean? What it leaves out, more than what it multiplies.

    Drawn: of 40 examples the most ordinary one, and as many strongest edges as are right (green:
    real, and helping in this example). Average: over 300.
    """
    model = itf.block_model(seed)
    U, b, real, (x, y) = model.U, model.b, model.is_real, (part[:300] for part in model.other)
    mean = itf.graph_precision(U, b, real, x, y)
    designs = {"all": "all weights", "in play": "in play: from active to firing",
               "attribution": "attribution: in play, times x"}
    singles = [itf.graph_precision(U, b, real, x[[k]], y[[k]]) for k in range(40)]
    k = np.argmin([sum(abs(one[name] - mean[name]) for name in designs) for one in singles])
    edges = itf.attribution_graph(U, b, x[k])
    right = real & (edges != 0) & (itf.ablation_effects(U, b, x[[k]], y[[k]]) > 0.01)
    slide, axes = new_slide("Leave out what is off, and one example's graph is mostly right", 3,
                            subplot_kw=BARE | {"xlim": (-0.15, 1.15), "ylim": (130, -3)})
    for ax, name, score in zip(axes, designs, (U, np.where(edges != 0, U, 0), edges)):
        best = itf.ranking(score)[:right.sum()]
        for i, j in zip(*np.unravel_index(best[::-1], U.shape)):
            good = right[i, j]
            ax.plot([0, 1], [j, i], color=GREEN if good else ORANGE, lw=5 if good else 2)
        for side, on, words in ((0, x[k] > 0, "sources"), (1, edges.any(axis=1), "targets")):
            ax.plot([side] * on.sum(), np.flatnonzero(on), "ko", ms=5)
            ax.text(side, 131, words, ha="center", va="top")
        ax.set_title(f"{designs[name]}\n{singles[k][name]:.0%} right, on average {mean[name]:.0%}")
    return slide, {"attribution": mean["attribution"], **mean}


# --- The appendices -------------------------------------------------------------------------------

@figure("derived from 90 degrees on, and measured", "the note, Appendix 1")
def weight_sharing(seed):
    """Do the weights of two circuits in superposition add? Only if they are orthogonal."""
    fine = np.arange(90, 180.5, 0.5)
    derived = 1 / (1 + np.cos(np.radians(fine))**2)
    slide, ax = new_slide("Orthogonal circuits add up; opposite ones share one weight")
    angles, ratios = [*fine[::45], 60], []
    for angle, t in zip(angles, np.radians(angles)):
        D = np.array([[1, 0], [np.cos(t), np.sin(t)]])
        total = itf.shared_middle(D, [0]) + itf.shared_middle(D, [1])
        ratios.append(np.vdot(itf.shared_middle(D, [0, 1]), total) / np.vdot(total, total))
        icon = ax.inset_axes((angle - 7, -0.36, 14, 0.26), transform=ax.transData, aspect="equal",
                             xlim=(-1.1, 1.1), ylim=(-0.2, 1.1), **BARE)
        for tip in D:
            arrow(icon, tip, "black", 2)
    curve(ax, fine, derived, "derived: 1 / (1 + cos\u00b2 angle)", 80, (14, 10), color="0.6")
    ax.plot(angles, ratios, "ko", ms=12)
    ax.text(63, ratios[-1], "below 90 degrees\nthe derivation ends", va="center")
    ax.set(ylim=(-0.4, 1.4), xlim=(50, 190), xticks=angles, xlabel="angle between them (degrees)",
           ylabel="joint weights / sum of the separate ones")
    return slide, {"largest deviation": np.abs(ratios[:5] / derived[::45] - 1).max()}


@figure("pairs and edge reproduced; pentagons vary", "the note, Appendix 2")
def converged_geometry(seed):
    """What is interference made of after convergence? Of geometry, or of a sharp edge."""
    dense, usual, sparse = (itf.simple_model(seed, s, converged=True) for s in (0.25, 0.02, 0.001))
    W = dense.model.W[:, stored(dense)]
    W = W / np.linalg.norm(W, axis=0)
    cosines = (W.T @ W)[np.triu_indices(W.shape[1], 1)]
    near = {t: np.sum(np.abs(cosines - np.cos(np.radians(t))) < 0.02) for t in (180, 144, 90, 72)}
    slide, (left, right) = new_slide(f"Dense features form {near[180]} opposite pairs; sparse ones "
                                     "keep their distance", 2)
    left.hist(cosines, np.linspace(-1.025, 1.025, 83), color=ORANGE, log=True)
    left.text(0.4, 30, "\n".join(f"{angle}\u00b0: {count} pairs" for angle, count in near.items()))
    left.set(title=f"density 0.25: {W.shape[1]} features stored", xlabel="cosine of each pair",
             ylabel="number of pairs", ylim=(0.7, None))
    weights = sparse.U[~np.eye(100, dtype=bool)]
    right.hist(weights, 60, color=ORANGE)
    right.axvline(-sparse.b.mean(), color="black", ls=":")
    right.set(title=f"density 0.001: none above {weights.max():.2f}", ylabel="number of weights",
              xlabel="interference weight (below \u2212b none shows)")
    return slide, {"free at 0.001": free(sparse), "free at 0.02": free(usual)}


@figure("reproduced; the bars ours", "the note, Appendix 3")
def correlated_sets(seed):
    """Is all interference noise? No: where features are correlated, its means help."""
    model = itf.correlated_model(seed)
    U, off = model.U, ~np.eye(200, dtype=bool)
    means = itf.set_mean_component(U, 100) * off
    order = tm.generator((seed, 6)).permutation(200)
    mixed, random = np.ix_(order, order), np.zeros_like(U)
    random[mixed] = itf.set_mean_component(U[mixed], 100) * off
    models = {"diagonal": U * ~off, "+ means": U * ~off + means,
              "+ what else helps": np.where(off & (model.dL <= 0), means, U),
              "random means": U * ~off + random * np.linalg.norm(means) / np.linalg.norm(random)}
    slide, (left, right) = new_slide("Where features are correlated, mean interference helps, as a "
                                     "bias would", 2)
    same_set = np.kron(np.eye(2), np.ones((100, 100))) > 0
    for where, words, line, side in ((same_set & off, "within", "-", "left"),
                                     (~same_set, "between", "--", "right")):
        mean = U[where].mean()
        left.hist(U[where], np.linspace(-1, 0.8, 61), histtype="step", color=ORANGE, lw=3, ls=line)
        left.axvline(mean, color="black", lw=2, ls=line)
        left.text(mean, 3000, f" {words} sets: {mean:+.2f} ", ha=side, va="top")
    left.set(xlabel="interference weight", ylabel="number of weights", ylim=(0, 3000))
    numbers = {}
    for shift, color, words in ((-0.2, "0.6", "trained"), (0.2, "0.85", "refitted")):
        losses = [itf.lifted_loss(V, model.b, *model.fresh, refit_bias=words == "refitted")
                  / model.loss for V in models.values()]
        bars = right.bar(np.arange(3) + shift, losses[:3], 0.4, color=color)
        right.bar_label(bars, fmt=f"%.2f\n{words}", label_type="center", fontsize=13)
        numbers |= {f"{name}, {words}": loss for name, loss in zip(models, losses)}
    right.set(xticks=range(3), xticklabels=list(models)[:3], title="loss / the whole model's")
    return slide, numbers


@figure("that they disagree, reproduced; the numbers ours", "the note, Appendix 4")
def definitions(seed):
    """Do the definitions agree on the hard model? In part: they ask different questions."""
    model = itf.block_model(seed)
    A, start = model.task.A, (model.U, model.b, model.task)
    U_star, _ = itf.ideal_weights(*start, seed=seed, progress=itf.counter)
    mask, _ = itf.learned_mask(*start, seed=(seed, 9), progress=itf.counter)
    sets = {"A, the task": A > 0, "Definition 1": U_star > 0.05, "Definition 2": model.is_real,
            "learned mask": mask > 0.5}
    slide, ax = new_slide("Definition 1 finds the task's circuit, the others what the model uses")
    for name, kept in sets.items():
        inside, outside = np.sum(kept & (A > 0)), np.sum(kept & (A == 0))
        ax.barh(name, inside, 0.6, color="0.4")
        bar = ax.barh(name, outside, 0.6, inside, color="0.85")
        ax.bar_label(bar, [f"{inside} in A, {outside} besides"], padding=4)
    ax.set(xlabel="weights called real", ylim=(3.5, -0.5))
    return slide, {f"{name} finds of A": sets[name][A > 0].mean() for name in list(sets)[1:]}


# --- The command line -----------------------------------------------------------------------------

def save(name, slide, seed, path):
    """Write one figure under another name, then rename it: nobody ever sees half a file."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        if name == "training":
            writer = PillowWriter(fps=3)
            with writer.saving(slide, part, dpi=100):
                for step in (*FILM_STEPS, *FILM_STEPS[-1:] * 3):
                    writer.fig = training(seed, step=step)[0]
                    writer.grab_frame()
        else:                                      # without dates: the same bytes every time
            date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
            slide.savefig(part, metadata=date)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def settings_of(name, pairs):
    """["densities=0.5,0.1"] -> {"densities": (0.5, 0.1)}, if the figure has such a setting."""
    parameters, settings = inspect.signature(FIGURES[name]).parameters, {}
    for key, _, value in (pair.partition("=") for pair in pairs):
        if key not in list(parameters)[1:]:        # all but the seed
            raise ValueError(f"{name} has no setting {key}; it has: {list(parameters)[1:]}")
        settings[key] = value = ast.literal_eval(value)
        if isinstance(parameters[key].default, tuple) and not isinstance(value, tuple):
            settings[key] = (value,)               # densities=0.05
    return settings


def parse(arguments):
    """The command line; what cannot be done ends here, with one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Make the figures of the lesson.")
    option = parser.add_argument
    option("names", nargs="*", default=list(FIGURES), metavar="NAME", help="figures (default: all)")
    option("--list", action="store_true", help="say what each figure shows, and stop")
    option("--out", type=pathlib.Path, metavar="DIR", help="default: figures; with --set: what_if")
    option("--format", choices=("png", "svg", "pdf"), default="png", help="the film is a gif")
    option("--seed", type=int, default=0, metavar="N", help="of everything, 0 or more; default: 0")
    option("--set", nargs="+", default=[], metavar="KEY=VALUE", help="a setting of one figure, "
           "such as densities=0.5,0.1,0.03; any other word lists those that it has")
    option("--show", action="store_true", help="also open them (as png) in windows, at the end")
    options = parser.parse_args(arguments)
    try:
        for name in set(options.names) - set(FIGURES):
            raise ValueError(f"no figure named {name}; there are: {', '.join(FIGURES)}")
        if options.set and len(options.names) != 1:
            raise ValueError("--set needs the name of one figure")
        tm.generator(options.seed)
        options.out = options.out or pathlib.Path("what_if" if options.set else "figures")
        options.set = settings_of(options.names[0], options.set)
        options.out.mkdir(parents=True, exist_ok=True)
    except (OSError, SyntaxError, ValueError) as error:
        parser.error(str(error))
    return options


def main(arguments=None):
    """Make what the command line asks for; returns the exit code."""
    options, made, start = parse(arguments), {}, time.perf_counter()
    if options.list:
        for name, builder in FIGURES.items():
            print(f"{name:19} {builder.__doc__.splitlines()[0]}")
        return 0
    for k, name in enumerate(options.names, 1):
        began = time.perf_counter()
        path = options.out / f"{name}.{'gif' if name == 'training' else options.format}"
        try:
            slide, numbers = FIGURES[name](options.seed, **options.set)
            save(name, slide, options.seed, path)
            label, value = next(iter(numbers.items()))
            made[name], outcome = path, f"{label} {value:.3g} -> {path}"
        except Exception as error:
            outcome = f"FAILED: {type(error).__name__}: {error}"
        took = f"{time.perf_counter() - began:5.1f} s"
        print(f"[{k:2}/{len(options.names)}] {name:19} {took}  {outcome}", flush=True)
    print(f"{len(made)} figures in {time.perf_counter() - start:.1f} s")
    if options.show:
        from matplotlib import pyplot
        for name, path in made.items():
            pyplot.figure(name, (12.8, 7.2)).figimage(pyplot.imread(path))
        pyplot.show()
    return 0 if len(made) == len(options.names) else 1


if __name__ == "__main__":
    raise SystemExit(main())
