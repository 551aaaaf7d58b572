"""Every figure of the lesson, one function each, in reading order.

    python plots.py                      all figures into figures/
    python plots.py pentagon steering    only these
    python plots.py --list               what there is, a line each
    python plots.py --help               everything else

Each builder takes a seed and returns (figure, numbers): a matplotlib Figure, and a dict of the
numbers in it, the headline first. Its docstring says the question, the answer, the status of the
result (exact, reproduced or our observation) and the source. `test_all.py` checks the numbers.

Two configurations carry most figures. *simple*: a tied model gives back 100 features through 20
dimensions, stopped early (the note does so on purpose) or converged. *block*: an untied model learns
a random block-diagonal circuit on 128 features through 16 dimensions. Models are trained once and
shared; everything is a function of the seed, so a figure is the same made alone or with the others.
"""
import os

for library in ("OPENBLAS", "OMP", "MKL"):  # before NumPy loads: threads fight over small matrices
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import argparse
import io
import pathlib
import sys
import textwrap
import time
from functools import cached_property, lru_cache

import matplotlib
import numpy as np
from PIL import Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import interference as itf
from toymodel import (TiedModel, UntiedModel, block_task, correlated_task, identity_task,
                      sparse_features, train)

STYLE = {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 100,
         "svg.hashsalt": "interference weights", "image.interpolation": "nearest"}
DIVERGING = "RdBu"         # blue positive or helpful, red negative or harmful, white zero
REAL, INTERFERENCE = {"color": "#0B5394", "marker": "^"}, {"color": "#B0803A", "marker": "."}
THRESHOLD = 1e-4           # Definition 2: dL above this is real
DL_LIMIT = 0.02            # colours saturate at this dL


# --- Models, trained once and shared ----------------------------------------------------------------


class Trained:
    """A trained model, the data that figures measure it on, and what is measured once for all."""

    def __init__(self, task, model, seed, examples=32768):
        self.task, self.model = task, model
        self.U, self.b = model.virtual_weights(), model.b
        self.x, self.y = task.batch(np.random.default_rng((seed, 1)), examples)  # not training data
        self.loss = model.loss(self.x, self.y)

    @cached_property
    def dL(self):
        return itf.ablation_effects(self.U, self.b, self.x, self.y)

    @cached_property
    def is_real(self):
        return self.dL > THRESHOLD

    @cached_property
    def scores(self):
        return itf.all_scores(self.U, self.b, self.x, self.y)


def counter(done, steps):
    """Progress of a long training, on a terminal only."""
    if sys.stderr.isatty() and (done % 100 == 0 or done == steps):
        print(f"\r  training: step {done} of {steps}\x1b[K", end="\r", file=sys.stderr, flush=True)


@lru_cache(maxsize=None)
def pentagon_model(seed, density, decay, tries=5):
    """5 features in 2 dimensions, importance decay^i; the best of several starts by final loss."""
    task = identity_task(5, density, importance=decay ** np.arange(5))
    x, y = task.batch(np.random.default_rng((seed, 1)), 32768)
    models = [TiedModel.initialise(np.random.default_rng((seed, t)), 5, 2) for t in range(tries)]
    for model in models:
        train(model, task, 2000, learning_rate=1e-2, seed=seed, schedule="cosine", progress=counter)
    return min(models, key=lambda model: model.loss(x, y, task.importance))


@lru_cache(maxsize=None)
def simple_model(seed, steps=300, density=0.02, learning_rate=1e-3):
    """100 features through 20 dimensions: 300 steps leave it undertrained, 3000 or more converged."""
    task = identity_task(100, density)
    model = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    schedule = "constant" if steps <= 300 else "cosine"
    train(model, task, steps, 1024, learning_rate, seed, schedule, progress=counter)
    return Trained(task, model, seed)


@lru_cache(maxsize=None)
def block_model(seed, run=0):
    """The note's hard case. `seed` fixes the circuit; different runs train on it independently."""
    task = block_task(seed=seed)
    model = UntiedModel.initialise(np.random.default_rng((seed, run)), 128, 16)
    train(model, task, 2000, 256, 1e-3, seed=(seed, run), progress=counter)
    return Trained(task, model, seed)


@lru_cache(maxsize=None)
def ideal_of_simple(seed):
    model = simple_model(seed)
    return itf.ideal_weights(model.U, model.b, model.task, seed=seed, progress=counter)


# --- Drawing ----------------------------------------------------------------------------------------


def new_figure(columns, rows=1, width=4.6, height=4.2, **options):
    """A Figure without pyplot, and its axes as an array."""
    figure = Figure(figsize=(width * columns, height * rows + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def caption(figure, text):
    """The sentence under a figure: what to see, with its numbers."""
    figure.supxlabel(textwrap.fill(text, int(11 * figure.get_figwidth())), fontsize=12)


def heatmap(axes, matrix, title, limit=None):
    """A matrix with a diverging map symmetric about 0; row = target, column = source."""
    limit = np.abs(matrix).max() if limit is None else limit
    image = axes.imshow(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit)
    axes.set(title=title, xlabel="source feature j", ylabel="target feature i")
    axes.figure.colorbar(image, ax=axes, shrink=0.75)


def weight_bars(axes, weights, dL, title, bins=60):
    """A histogram of weights on a log scale; a bar's colour is the mean dL of the weights in it."""
    counts, edges = np.histogram(weights, bins)
    totals, _ = np.histogram(weights, edges, weights=dL)
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(-DL_LIMIT, DL_LIMIT), DIVERGING)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", edgecolor="0.4", linewidth=0.5,
             color=scale.to_rgba(totals / np.maximum(counts, 1)))
    axes.set(title=title, xlabel="virtual weight", ylabel="number of weights", yscale="log")
    axes.figure.colorbar(scale, ax=axes, label="mean dL (> 0 helps)", shrink=0.75)


def scatter(axes, horizontal, vertical, is_real, **labels):
    """Interference below, real weights above it, told apart by colour and by marker."""
    for mask, style, name in ((~is_real, INTERFERENCE, "interference"), (is_real, REAL, "real")):
        axes.scatter(horizontal[mask], vertical[mask], s=18 if name == "real" else 5, alpha=0.6,
                     linewidths=0, label=f"{name} ({mask.sum()})", rasterized=True, **style)
    axes.axhline(0, color="0.8", zorder=0)
    axes.axvline(0, color="0.8", zorder=0)
    axes.set(**labels)


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


# --- The figures: superposition, and weights in superposition ---------------------------------------


def pentagon(seed):
    """How do 5 features share 2 dimensions? The sparser they are, the more of them move in.

    Dense features: the two most important get an axis each. Sparser: two antipodal pairs. Sparser
    still: all five, as a regular pentagon. Status: reproduced. Source: Toy Models of Superposition
    (Elhage et al. 2022), introduction.
    """
    decay, densities = 0.9, (1.0, 0.2, 0.05)
    figure, axes = new_figure(3, 2)
    numbers = {}
    for column, density in enumerate(densities):
        W = pentagon_model(seed, density, decay).W
        arrows, grid = axes[:, column]
        for i, (right, up) in enumerate(W.T):
            arrows.annotate("", (right, up), (0, 0), arrowprops={"arrowstyle": "->", "lw": 2.5, "color": f"C{i}"})
            if np.hypot(right, up) > 0.3:
                arrows.text(1.14 * right, 1.14 * up, str(i), ha="center", va="center", weight="bold")
        arrows.set(title=f"density {density:g}", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
        heatmap(grid, W.T @ W, "virtual weights U", limit=1)
        for i, j in np.ndindex(5, 5):
            grid.text(j, i, f"{(W.T @ W)[i, j]:.1f}", ha="center", va="center", fontsize=10)
        stored = W[:, np.linalg.norm(W, axis=0) > 0.5]
        angles = np.sort(np.degrees(np.arctan2(stored[1], stored[0])))
        numbers[f"gaps at density {density:g}"] = np.diff(angles, append=angles[0] + 360).round(1).tolist()
    gaps = numbers[f"gaps at density {densities[-1]:g}"]
    caption(figure, f"Importance {decay:g}^i. Arrows are the columns of W: features 0 to 4 in two dimensions. "
            f"At density {densities[-1]:g} neighbours are {min(gaps):.0f} to {max(gaps):.0f} degrees apart: "
            "a pentagon. What is off the diagonal of U is interference.")
    return figure, {"pentagon gap (degrees)": max(gaps, key=lambda gap: abs(gap - 72)), **numbers}


def virtual_weights(seed):
    """What does the small model look like, lifted to feature space? The identity, plus noise.

    Status: reproduced. Source: the note, "A Toy Model of Interference Weights", first figures.
    """
    model = simple_model(seed)
    U, n = model.U, len(model.U)
    off_diagonal = U[~np.eye(n, dtype=bool)]
    figure, axes = new_figure(2, width=5.6)
    heatmap(axes[0], np.eye(n), "ideal circuit A", limit=1)
    heatmap(axes[1], U, "virtual weights U, trained", limit=1)
    caption(figure, f"The task wants the identity. The model has {n} features in {len(model.model.W)} dimensions: "
            f"its diagonal is {np.diag(U).mean():.2f} on average, and the rest, which should be 0, "
            f"has standard deviation {off_diagonal.std():.2f}.")
    return figure, {"interference std": float(off_diagonal.std()), "diagonal mean": float(np.diag(U).mean())}


def decomposition(seed):
    """Can U be split into real and interference weights? Yes, in two ways that agree here.

    Definition 1: real is what training without a bottleneck would keep. Definition 2: real is each
    weight whose ablation raises the loss by more than 1e-4. Status: reproduced (exact ablation).
    Source: the note, "Defining interference weights".
    """
    model = simple_model(seed)
    U_star, b_star = ideal_of_simple(seed)
    ideal_loss = itf.LiftedModel(U_star, b_star).loss(model.x, model.y)
    off_identity = float(np.abs(U_star - np.eye(len(U_star))).max())
    figure, axes = new_figure(3, 2)
    rows = (("Definition 1", "ideal U*", itf.decompose_by_ideal(model.U, U_star)),
            ("Definition 2", f"real: dL > {THRESHOLD:g}", itf.decompose_by_loss(model.U, model.dL, THRESHOLD)))
    for (a, b, c), (name, title, (real, interference)) in zip(axes, rows):
        heatmap(a, model.U, f"{name}: U", limit=1)
        heatmap(b, real, f"=  {title}", limit=1)
        heatmap(c, interference, "+  interference", limit=1)
    interference = rows[1][2][1]
    on_diagonal = int(np.diag(model.is_real).sum())
    caption(figure, f"Trained without a bottleneck, U* is the identity to {100 * off_identity:.1f} % and has "
            f"{100 * ideal_loss / model.loss:.2f} % of the model's loss. By loss, {model.is_real.sum()} weights are real, "
            f"{on_diagonal} of them on the diagonal.")
    return figure, {"interference std": float(interference[~model.is_real].std()), "U* off identity": off_identity,
                    "ideal loss ratio": ideal_loss / model.loss, "real": int(model.is_real.sum()),
                    "real on diagonal": on_diagonal}


def weight_histogram(seed):
    """What would you see with nothing but the weights? A bulk around 0, and a bump of real ones.

    Status: reproduced. Source: the note; the shape is that of the logit-weight histograms in Towards
    Monosemanticity (Bricken et al. 2023), for example of its Hebrew feature.
    """
    model, target = simple_model(seed), 0
    figure, axes = new_figure(2, width=6)
    weight_bars(axes[0], model.U, model.dL, f"all {model.U.size} weights")
    weight_bars(axes[1], model.U[target], model.dL[target], f"the weights into feature {target}", bins=40)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    caption(figure, f"Interference: a bulk at {rest.mean():.2f} +- {rest.std():.2f}. Real weights: a bump at {real.mean():.2f}. "
            f"The gap between the largest interference weight, {rest.max():.2f}, and the smallest real one, {real.min():.2f}, "
            "is what makes this model easy.")
    return figure, {"real mean": float(real.mean()), "interference mean": float(rest.mean()),
                    "gap": float(real.min() - rest.max())}


def two_models(seed):
    """Does interference repeat when the model is trained again? No; real weights do.

    Undertrained: two seeds share no interference. Converged: each still has its own, but it has
    structure, with a hard upper edge. Status: reproduced. Source: the note.
    """
    figure, axes = new_figure(2, width=5.4, height=5)
    numbers = {}
    for ax, name, steps in zip(axes, ("undertrained", "converged"), (300, 3000)):
        first, second = simple_model(seed, steps), simple_model(seed + 1, steps)
        real = np.eye(len(first.U), dtype=bool)
        r = correlation(first.U[~real], second.U[~real])
        edge = np.quantile(first.U[~real], 0.999)
        scatter(ax, first.U, second.U, real, title=f"{name} ({steps} steps): interference r = {r:.2f}",
                xlabel="U, one seed", ylabel="U, another seed", aspect="equal")
        numbers |= {f"{name} interference r": r, f"{name} smallest real": float(first.U[real].min()),
                    f"{name} diagonal sd": float(first.U[real].std()), f"{name} edge": float(edge)}
    axes[1].axvline(edge, color="k", linestyle="--", label=f"edge at {edge:.2f}")
    axes[1].legend(loc="lower right", fontsize=11)
    caption(figure, f"Each point is one virtual weight in two models. Interference is uncorrelated. After convergence real weights agree "
            f"(sd {numbers['converged diagonal sd']:.3f}), and interference ends at a hard edge near {edge:+.2f}.")
    return figure, numbers


def block_two_models(seed):
    """And in the hard model? Real weights agree partly, interference still not at all.

    Real: what Definition 2 calls real in the first of the two runs. Status: reproduced; the settings
    at which it shows (both matrices learned, stopped early) were found by search and are ours.
    """
    first, second = block_model(seed), block_model(seed, run=1)
    real = first.is_real
    r_real, r_rest = correlation(first.U[real], second.U[real]), correlation(first.U[~real], second.U[~real])
    figure, ax = new_figure(1, width=7, height=6)
    scatter(ax, first.U, second.U, real, xlabel="U, one run", ylabel="U, another run", aspect="equal",
            title=f"block model, same circuit, two runs")
    ax.legend(loc="lower right")
    caption(figure, f"Correlation between the runs: {r_real:.2f} over the {real.sum()} real weights, {r_rest:.2f} over interference.")
    return figure, {"real r": r_real, "interference r": r_rest}


# --- The figures: the hard model, and heuristics ----------------------------------------------------


def block_histogram(seed):
    """What if real and interference weights overlap? Then no threshold on the weight separates them.

    Status: reproduced. Source: the note; the shape is that of the base64 feature in Towards
    Monosemanticity (Bricken et al. 2023).
    """
    model = block_model(seed)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    figure, axes = new_figure(2, width=6)
    weight_bars(axes[0], model.U, model.dL, f"all {model.U.size} weights", bins=50)
    bins = np.linspace(0, model.U.max(), 31)
    axes[1].hist([real, rest], bins, stacked=True, color=[REAL["color"], INTERFERENCE["color"]], hatch=["//", ""],
                 edgecolor="white", label=["real", "interference"])
    axes[1].set(title="the positive ones, real at the bottom", xlabel="virtual weight", ylim=(0, 3 * len(real)),
                ylabel="number of weights (cut off)")
    axes[1].legend()
    overlap = float(np.mean(real < np.quantile(rest, 0.99)))
    caption(figure, f"Interference: mean {rest.mean():.2f}, standard deviation {rest.std():.2f}. The {len(real)} real weights "
            f"sit inside it: {100 * overlap:.0f} % of them are smaller than the top 1 % of interference.")
    return figure, {"interference std": float(rest.std()), "interference mean": float(rest.mean()), "overlap": overlap}


def learned_vs_ideal(seed):
    """What did the model do to each ideal weight? Shrank it, did not learn it, or made it up.

    Status: reproduced. Source: the note.
    """
    model = block_model(seed)
    A, U, dL = model.task.A, model.U, model.dL
    jitter = np.where(A == 0, np.random.default_rng(seed).uniform(-0.02, 0.02, A.shape), 0)
    order = np.argsort(np.abs(dL), axis=None)                          # strong colours on top
    figure, ax = new_figure(1, width=8.5, height=6)
    for mask, marker, size in ((A == 0, ".", 15), (A > 0, "^", 55)):
        pick = order[mask.flat[order]]
        points = ax.scatter((A + jitter).flat[pick], U.flat[pick], c=dL.flat[pick], cmap=DIVERGING, vmin=-DL_LIMIT,
                            vmax=DL_LIMIT, marker=marker, s=size, edgecolors="0.5", linewidths=0.3, rasterized=True)
    figure.colorbar(points, ax=ax, label="dL (> 0 helps)")
    ax.plot([0, 1], [0, 1], "k--", lw=1)
    ax.axhline(0, color="0.7", zorder=0)
    for text, where in (("learned exactly", (0.62, 0.68)), ("shrunk", (0.8, 0.45)), ("not learned", (0.7, -0.12)),
                        ("interference", (0.04, 0.95 * U.min()))):
        ax.text(*where, text, weight="bold", rotation=32 if text == "learned exactly" else 0)
    ax.set(xlabel="ideal weight A (0 is spread out)", ylabel="learned weight U", title="block model: learned against ideal")
    wanted = A > 0
    unlearned = float(np.mean(U[wanted] < 0.2 * A[wanted]))
    shrunk = float(np.mean(U[wanted] < A[wanted]))
    caption(figure, f"Of {wanted.sum()} ideal weights, {100 * shrunk:.0f} % lie below the diagonal and {100 * unlearned:.0f} % have not "
            f"reached a fifth of their value. Where A = 0, weights reach from {U[~wanted].min():.1f} to {U[~wanted].max():.1f}.")
    return figure, {"shrunk": shrunk, "unlearned": unlearned, "largest interference": float(U[~wanted].max())}


SCORE_STYLES = {  # how each ranking is drawn, everywhere: label, colour (Okabe and Ito's palette), line
    "ideal": ("ideal (exact dL)", "black", "-"),
    "second_order": ("second order", "#0072B2", "-"),
    "era": ("ERA", "#D55E00", "-"),
    "guarded_twera": ("TWERA, guarded", "#009E73", "--"),
    "twera": ("TWERA, published", "#009E73", ":"),
    "weight": ("weight", "#CC79A7", "-."),
    "frequency": ("frequency", "#7F7F7F", "--"),
}


def precision_recall(seed):
    """Can cheap heuristics find the real weights? Better than the weight alone; none is perfect.

    Real: exact dL > 1e-4. Second order answers the note's "can we beat this?". Status: the order of
    the heuristics is reproduced; second order and the guard are ours. Source: the note.
    """
    model = block_model(seed)
    scores = {"ideal": model.dL, **model.scores}
    figure, ax = new_figure(1, width=8.5, height=6)
    numbers = {}
    for name, (label, color, line) in SCORE_STYLES.items():
        precision, recall = itf.precision_recall(scores[name], model.is_real)
        numbers[name] = itf.average_precision(precision, recall)
        ax.plot(recall, precision, line, color=color, lw=2.5, label=f"{label}: {numbers[name]:.2f}")
    base = float(model.is_real.mean())
    ax.axhline(base, color="0.6", lw=1, label=f"base rate: {base:.3f}")
    ax.set(xlabel="recall: real weights found", ylabel="precision: found weights that are real", ylim=(0, 1.04),
           title=f"finding {model.is_real.sum()} real weights among {model.U.size}")
    ax.legend(title="average precision", loc="center left", bbox_to_anchor=(1.02, 0.5))
    rate = np.maximum(model.x @ model.U.T + model.b, 0).mean(axis=0)   # (n,), mean output of each target
    top_rows = itf.ranking(model.scores["twera"])[:100] // len(rate)
    rare = int(np.sum(rate[top_rows] < 0.01 * rate.max()))
    caption(figure, f"Published TWERA collapses: {rare} of its top 100 weights lead into targets whose mean output is below 1 % "
            "of the largest. The guard keeps their denominators up.")
    return figure, {"ERA average precision": numbers["era"], **numbers, "base rate": base, "rare in TWERA's top 100": rare,
                    "correlation of second order": correlation(model.scores["second_order"], model.dL)}


def loss_gain(seed):
    """How much of the loss does a precise selection explain? More than all the weights together do.

    Loss gain is the sum of dL over the kept weights, here over its largest possible value (the
    oracle's). Status: reproduced; second order is ours. Source: the note.
    """
    model = block_model(seed)
    oracle = model.dL[model.is_real].sum()
    same = float(model.dL.sum() / oracle)
    figure, ax = new_figure(1, width=8.5, height=6)
    numbers = {"all over oracle": same}
    for name in ("second_order", "era", "guarded_twera", "weight"):
        label, color, line = SCORE_STYLES[name]
        precision, _ = itf.precision_recall(model.scores[name], model.is_real)
        gain = itf.loss_gain(model.scores[name], model.dL) / oracle
        last = np.flatnonzero(precision >= 0.8)[-1] if np.any(precision >= 0.8) else 0
        numbers |= {f"{name} best": float(gain.max()), f"{name} at 80 %": float(gain[last])}
        ax.plot(precision, gain, line, color=color, lw=2.5, label=f"{label}: {gain[last]:.2f} at 80 %, best {gain.max():.2f}")
        ax.plot(0.8, gain[last], "o", color=color, ms=9)
    ax.plot(1, 1, "*", color="k", ms=18, label="oracle: every real weight, nothing else")
    ax.axhline(same, color="k", lw=1, linestyle="--", label=f"same loss as the original: {same:.2f}")
    ax.axhspan(same, 1.02, color="0.93", zorder=0)
    ax.text(0.36, same + 0.015, "better than the original")
    ax.axvline(0.8, color="0.6", lw=1)
    ax.set(xlabel="precision of the kept weights", ylabel="loss gain / oracle's", ylim=(0, 1.05),
           title="loss gain against precision, prefix by prefix")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    caption(figure, f"All weights together gain {same:.2f} of what the real ones alone do: interference costs the rest. In the shaded "
            "stretch a prefix of the ranking beats the whole model, by this measure (for the true loss see pruned_loss).")
    return figure, numbers


# --- The figures: the appendices --------------------------------------------------------------------


def train_middle(directions, active, steps=400, learning_rate=0.2):
    """M (m, m) of z = D M D.T x, trained to double the `active` features, one of them per example.

    D = `directions` (n, m), one unit row per feature, is fixed. With U = D M D.T the chain rule gives
    dM = W_up.T @ dU @ W_down.T = D.T @ dU @ D. Plain gradient descent, from 0.001 I: at M = 0 every
    gate is shut. Descent, unlike Adam, never leaves the span of its gradients.
    """
    M = 0.001 * np.eye(directions.shape[1])
    x = np.eye(len(directions))[active]                                # (len(active), n)
    for _ in range(steps):
        lifted = itf.LiftedModel(directions @ M @ directions.T, np.zeros(len(directions)))
        _, gradients = lifted.loss_and_gradients(x, 2 * x)
        M -= learning_rate * directions.T @ gradients["U"] @ directions
    return M


def weight_sharing(seed):
    """Do the weights of circuits in superposition add? Only if they do not interfere.

    Two circuits double a feature each, through one middle matrix M. Unit directions d_1, d_2 at
    angle t in [90, 180] degrees; output i is relu(d_i M d_j x_j). Alone, descent from 0 grows
    M_i = 2 d_i d_i^T, the smallest M with d_i M d_i = 2. Together it grows M = c (d_1 d_1^T + d_2 d_2^T),
    as cross outputs, c d_1.d_2 (1 + 1) <= 0, are shut. d_1 M d_1 = c (1 + cos^2 t) = 2 then gives

        M = (M_1 + M_2) / (1 + cos^2 t):    1 at 90 degrees (weights add), 1/2 at 180 (they are shared)

    Status: exact (derived), and measured. Source: the note, Appendix 1.
    """
    degrees = np.array([90, 112.5, 135, 157.5, 180])
    ratios = []
    for t in np.radians(degrees):
        directions = np.array([[1, 0], [np.cos(t), np.sin(t)]])
        joint, total = train_middle(directions, [0, 1]), train_middle(directions, [0]) + train_middle(directions, [1])
        ratios.append(np.vdot(joint, total) / np.vdot(total, total))
    predicted = 1 / (1 + np.cos(np.radians(degrees))**2)
    error = float(np.max(np.abs(ratios / predicted - 1)))
    figure, ax = new_figure(1, width=8, height=5)
    fine = np.linspace(90, 180, 200)
    ax.plot(fine, 1 / (1 + np.cos(np.radians(fine))**2), color="0.5", lw=2.5, label="1 / (1 + cos$^2$ angle), derived")
    ax.plot(degrees, ratios, "o", color=REAL["color"], ms=11, label="trained")
    ax.set(xlabel="angle between the two circuits' directions (degrees)", ylabel="joint matrix / sum of separate ones",
           xticks=degrees, ylim=(0.4, 1.1), title="two circuits share one matrix")
    ax.legend()
    caption(figure, f"Orthogonal circuits: weights add (ratio {ratios[0]:.2f}). Antipodal ones: both use the same weight (ratio {ratios[-1]:.2f}). "
            f"Largest deviation of the measurement: {100 * error:.2f} %.")
    return figure, {"largest relative deviation": error, "ratios": ratios}


def converged_geometry(seed):
    """What is interference made of once training has converged? Geometry, or a sharp edge.

    Density 0.25: features sit in pentagons and antipodal pairs. Density 0.001: no clean shapes, but
    no two features come closer than a bound. Status: reproduced. Source: the note, Appendix 2.
    """
    figure, axes = new_figure(2, width=6.5)
    dense, sparse = (simple_model(seed, 5000, density, learning_rate=3e-3) for density in (0.25, 0.001))
    W = dense.model.W[:, np.linalg.norm(dense.model.W, axis=0) > 0.5]
    W = W / np.linalg.norm(W, axis=0)
    cosines = (W.T @ W)[np.triu_indices(W.shape[1], 1)]
    axes[0].hist(cosines, np.linspace(-1.025, 1.025, 83), color=INTERFERENCE["color"], log=True)
    pentagon_cosines = [float(np.cos(np.radians(72))), float(np.cos(np.radians(144)))]
    near = [int(np.sum(np.abs(cosines - c) < 0.02)) for c in pentagon_cosines]
    for c, name in ((pentagon_cosines[0], "pentagon"), (pentagon_cosines[1], "pentagon"), (-1, "pair"), (0, "orthogonal")):
        axes[0].text(c, 450, f"{name}\n{c:.2f}", ha="center", fontsize=10)
        axes[0].axvline(c, color="k", lw=1, linestyle=":")
    axes[0].set(title=f"density 0.25: {W.shape[1]} features stored", xlabel="cosine of two features", ylabel="pairs", ylim=(0.5, 2000))
    weights = sparse.U[~np.eye(len(sparse.U), dtype=bool)]
    counts, edges, _ = axes[1].hist(weights, 60, color=INTERFERENCE["color"])
    densest, top = float(edges[np.argmax(counts)]), float(weights.max())
    axes[1].axvline(top, color="k", linestyle="--", label=f"largest: {top:.2f}")
    axes[1].set(title="density 0.001", xlabel="off-diagonal virtual weight", ylabel="weights")
    axes[1].legend()
    caption(figure, f"Left: {near[0]} pairs at {pentagon_cosines[0]:.2f} and {near[1]} at {pentagon_cosines[1]:.2f}, as in {near[0] // 5} pentagons. Right: "
            f"the densest bin, at {densest:.2f}, lies just under the largest weight, {top:.2f}.")
    return figure, {"pairs at cos 72": near[0], "pairs at cos 144": near[1], "largest": top, "densest bin": densest,
                    "antipodal pairs": int(np.sum(cosines < -0.98))}


@lru_cache(maxsize=None)
def correlated_model(seed):
    """Two sets of 100 features, one active at a time, through 20 dimensions."""
    task = correlated_task(100, 2)
    model = TiedModel.initialise(np.random.default_rng(seed), 200, 20)
    train(model, task, 2000, 1024, 2e-3, seed, progress=counter)
    return Trained(task, model, seed, examples=16384)


def correlated_features(seed):
    """Is all interference noise? No: where features are correlated, some of it helps.

    Features of one set come together, of different sets never. Interference then has a low-rank part,
    the set means, which the model needs. Status: reproduced. Source: the note, Appendix 3.
    """
    model = correlated_model(seed)
    U, n = model.U, len(model.U)
    off_diagonal = ~np.eye(n, dtype=bool)
    same_set = (np.arange(n)[:, None] < n // 2) == (np.arange(n) < n // 2)
    within, between = U[same_set & off_diagonal], U[~same_set]
    component = itf.set_mean_component(U, n // 2)
    removed = itf.LiftedModel(U - component, model.b).loss(model.x, model.y) / model.loss
    residual = np.where(off_diagonal, U - component, 0)
    dL = itf.ablation_effects(U, model.b, model.x, model.y, part=residual)
    helps, harms = float(dL[dL > 0].sum()), float(dL[dL < 0].sum())
    figure, axes = new_figure(3, width=5)
    heatmap(axes[0], U, "U", limit=1)
    bins = np.linspace(-1, 0.6, 60)
    axes[1].hist(within, bins, histtype="step", lw=2.5, color=REAL["color"], label=f"within a set: {within.mean():+.2f}")
    axes[1].hist(between, bins, histtype="step", lw=2.5, ls="--", color=INTERFERENCE["color"], label=f"between: {between.mean():+.2f}")
    axes[1].set(title="off-diagonal weights, with means", xlabel="virtual weight", ylabel="weights")
    axes[1].legend(loc="upper left", fontsize=11)
    bars = axes[2].bar(["whole", "without\nset means", "residual\nthat helps", "residual\nthat harms"],
                       [1, removed, helps / model.loss, harms / model.loss], color=["0.5", "0.5", REAL["color"], INTERFERENCE["color"]],
                       hatch=["", "", "//", "\\\\"], edgecolor="white")
    axes[2].bar_label(bars, fmt="%.2f")
    axes[2].axhline(0, color="k", lw=1)
    axes[2].set(title="loss, and sums of dL (whole = 1)")
    axes[2].tick_params(axis="x", labelsize=10)
    caption(figure, f"Removing the set means multiplies the loss by {removed:.2f}. What is left splits into weights that help "
            f"(sum of dL {helps:+.3f}) and weights that harm ({harms:+.3f}); the model's loss is {model.loss:.3f}.")
    return figure, {"loss without set means": removed, "within mean": float(within.mean()), "between mean": float(between.mean()),
                    "within sd": float(within.std()), "between sd": float(between.std()), "helps": helps, "harms": harms}


@lru_cache(maxsize=None)
def block_mask(seed):
    """The learned mask of the block model, and the bias trained with it."""
    model = block_model(seed)
    return itf.learned_mask(model.U, model.b, model.task, penalty=0.001, batch_size=256, seed=seed, progress=counter)


def definitions(seed):
    """Do the definitions agree on the hard model? In part: they ask different questions.

    Definition 1 looks for the circuit, learned or not; Definition 2 removes one weight at a time; the
    mask removes all at once. Status: reproduced in kind; counts are ours. Source: the note, Appendix 4.
    """
    model = block_model(seed)
    U, b, x, y = model.U, model.b, model.x, model.y
    U_star, b_star = itf.ideal_weights(U, b, model.task, batch_size=256, learning_rate=1e-2, seed=seed, progress=counter)
    mask, mask_b = block_mask(seed)
    sets = {"ideal circuit A": model.task.A > 0, "Definition 1": U_star > 0.05, "Definition 2": model.is_real, "mask": mask > 0.5}
    real, interference = itf.decompose_by_loss(U, model.dL, THRESHOLD)
    losses = {"whole\nmodel": model.loss, "Def. 1\nU*, b*": itf.LiftedModel(U_star, b_star).loss(x, y),
              "Def. 2\nreal part": itf.LiftedModel(real, b).loss(x, y),
              "mask\nand its b": itf.LiftedModel(np.where(sets["mask"], U, 0), mask_b).loss(x, y),
              "Def. 2\npredicted": model.loss + float(model.dL[interference != 0].sum())}
    overlap = np.array([[np.sum(p & q) for q in sets.values()] for p in sets.values()])
    figure, axes = new_figure(2, width=6.8, height=5)
    axes[0].imshow(overlap, cmap="Blues", vmax=2 * overlap.max())
    for i, j in np.ndindex(overlap.shape):
        axes[0].text(j, i, overlap[i, j], ha="center", va="center", weight="bold" if i == j else "normal")
    axes[0].set(title="weights called real by both", yticks=range(4), yticklabels=sets, xticks=range(4),
                xticklabels=["A", "Def. 1", "Def. 2", "mask"])
    bars = axes[1].bar(list(losses), list(losses.values()), color=["0.5"] + [REAL["color"]] * 3 + ["white"],
                       edgecolor="k", hatch=["", "", "", "", "//"])
    axes[1].bar_label(bars, fmt="%.2f")
    axes[1].set(title="loss of the model that is left", ylabel="loss")
    axes[1].tick_params(axis="x", labelsize=11)
    predicted, true = losses["Def. 2\npredicted"] - model.loss, losses["Def. 2\nreal part"] - model.loss
    caption(figure, f"{np.sum(sets['ideal circuit A'] & ~sets['Definition 2'])} ideal weights are not real by loss: they were not learned. Removing all interference "
            f"of Definition 2 at once should change the loss by {predicted:+.2f}, adding up its dL; it changes it by {true:+.2f}. The mask was learned all at once.")
    return figure, {"predicted change": predicted, "true change": true, "overlap": overlap, "whole loss": model.loss,
                    "ideal loss": losses["Def. 1\nU*, b*"], "mask loss": losses["mask\nand its b"],
                    "mask kept": int(sets["mask"].sum()), "mask in A": int(overlap[3, 0])}


# --- The figures: beyond the note -------------------------------------------------------------------


def second_order(seed):
    """Do two matrix products give the effect of every weight? Nearly: they miss only gate flips.

    Status: our observation; the formula is Optimal Brain Damage's saliency with its gradient term
    (LeCun, Denker, Solla 1990), exact wherever no gate flips.
    """
    model = block_model(seed)
    estimate, flips = model.scores["second_order"], itf.gate_flip_rate(model.U, model.b, model.x)
    r = correlation(estimate, model.dL)
    many = flips > np.quantile(flips, 0.99)
    figure, ax = new_figure(1, width=8, height=6.5)
    for mask, style, name in ((~many, INTERFERENCE, "other weights"), (many, REAL, f"1 % that flip most (a gate on {100 * flips[many].min():.0f} % of examples or more)")):
        ax.scatter(estimate[mask], model.dL[mask], s=25, alpha=0.6, linewidths=0, label=name, rasterized=True, **style)
    low, high = min(estimate.min(), model.dL.min()), max(estimate.max(), model.dL.max())
    ax.plot([low, high], [low, high], "k--", lw=1, label="estimate = exact")
    ax.set(xlabel="second-order estimate", ylabel="exact dL", title=f"the effect of {model.U.size} weights: r = {r:.3f}")
    ax.legend(loc="lower right")
    error = np.abs(estimate - model.dL)
    share = float(error[many].sum() / error.sum())
    caption(figure, f"The estimate holds gates fixed. The 1 % of weights that flip a gate most often carry {100 * share:.0f} % of its total error.")
    return figure, {"correlation": r, "error share of flippers": share}


def pruned_loss(seed, sizes=(10, 30, 60, 100, 200, 500, 1000, 2000, 4000, 8000, 12000, 16384)):
    """Does a good ranking make a good small model? Not by itself: pruning shifts every bias.

    Each ranking keeps its best weights; the loss is the true one. With the bias refitted (exactly:
    see `best_bias`) small models beat the whole one. Status: our observation.
    """
    model = block_model(seed)
    x, y = model.x[:4096], model.y[:4096]
    mask, mask_b = block_mask(seed)
    kept = mask > 0.5
    mask_loss = itf.LiftedModel(np.where(kept, model.U, 0), mask_b).loss(model.x, model.y)
    scores = {"ideal": model.dL, **model.scores}
    figure, axes = new_figure(2, width=6.6, height=5.5, sharey=True)
    numbers = {}
    for name in ("ideal", "second_order", "era", "guarded_twera", "weight", "frequency"):
        label, color, line = SCORE_STYLES[name]
        for ax, refit in zip(axes, (False, True)):
            losses = itf.pruned_loss(model.U, model.b, x, y, scores[name], sizes, refit_bias=refit)
            ax.plot(sizes, losses, line, color=color, lw=2.5, marker="o", ms=4, label=label)
            numbers[f"{name} {'refitted' if refit else 'plain'}"] = losses
    gain = itf.loss_gain(scores["weight"], model.dL)[np.array(sizes) - 1]
    rising = np.flatnonzero((np.diff(gain) > 0) & (np.diff(numbers["weight plain"]) > 0))[-1] + 1
    axes[0].annotate("summed dL\nstill rising", (sizes[rising], numbers["weight plain"][rising]), (30, 22), arrowprops={"arrowstyle": "->"})
    for ax, title in zip(axes, ("bias as trained", "bias refitted")):
        ax.axhline(model.loss, color="k", lw=1, linestyle=":", label=f"whole model: {model.loss:.2f}")
        ax.plot(kept.sum(), mask_loss, "*", color="#E69F00", mec="k", ms=18, label=f"learned mask: {kept.sum()} weights")
        ax.set(xscale="log", yscale="log", title=title, xlabel="number of weights kept")
    axes[0].set_ylabel("true loss")
    axes[1].legend(fontsize=11, loc="upper right")
    worst = float(numbers["weight plain"][rising] / model.loss)
    caption(figure, f"Ranked by weight, the best {sizes[rising]} have {worst:.1f} times the whole model's loss although their summed dL still rises. The mask "
            f"keeps {kept.sum()} weights, {np.sum(kept & (model.task.A > 0))} of them in A, at {100 * (1 - mask_loss / model.loss):.0f} % less loss than the whole model.")
    return figure, {"mask loss": mask_loss, "mask kept": int(kept.sum()), "mask in A": int(np.sum(kept & (model.task.A > 0))),
                    "whole loss": model.loss, "worst rising ratio": worst, **numbers}


def effectiveness(seed):
    """Are the weights that move the output most the ones that help? The very strongest are.

    Effectiveness is the mean squared change of the output, helpfulness is dL with a 95 % interval.
    Status: our observation on this model. Source of the two axes: Turner, Wu, Batson (2026),
    Characterizing interference weights in a tiny language model.
    """
    model = block_model(seed)
    effect = itf.effectiveness(model.U, model.b, model.x)
    half = 1.96 * itf.ablation_standard_errors(model.U, model.b, model.x, model.y)
    helps, harms = model.dL > half, model.dL < -half
    order = itf.ranking(effect)
    top = order[:len(order) // 100]
    figure, ax = new_figure(1, width=9, height=6)
    for mask, color, marker, name in ((~helps & ~harms, "0.7", ".", "not distinguishable from 0"), (harms, INTERFERENCE["color"], "v", "harms"),
                                      (helps, REAL["color"], "^", "helps")):
        ax.scatter(effect[mask], model.dL[mask], s=14, c=color, marker=marker, linewidths=0, alpha=0.6, label=f"{name} ({mask.sum()})", rasterized=True)
    ax.errorbar(effect.flat[top], model.dL.flat[top], half.flat[top], fmt="none", ecolor="k", elinewidth=0.8, label="95 % interval, top 1 %")
    ax.axvline(effect.flat[top[-1]], color="k", lw=1, linestyle=":")
    ax.set(xscale="log", xlim=(effect[effect > 0].max() * 1e-6, effect.max() * 1.5), xlabel="effectiveness: mean squared change of the output",
           ylabel="helpfulness: dL", title="how far a weight moves the output, and whether it helps")
    ax.legend(loc="upper left", fontsize=11)
    share_top, share_all = float(helps.flat[top].mean()), float(helps.mean())
    caption(figure, f"Significantly helpful: {100 * share_top:.0f} % of the 1 % most effective weights (right of the line), {100 * share_all:.0f} % of all. "
            f"Significantly harmful: {100 * harms.flat[top].mean():.0f} % of the top, {100 * harms.mean():.0f} % of all.")
    return figure, {"helpful in the top 1 %": share_top, "helpful overall": share_all, "harmful in the top 1 %": float(harms.flat[top].mean()),
                    "dL of the most effective": float(model.dL.flat[order[0]]), "its half interval": float(half.flat[order[0]])}


def graph_precision(model, density, seed, examples=150):
    """Precision of one-example graphs at their number of real edges, averaged over examples."""
    n, precisions = len(model.U), []
    for x in sparse_features(np.random.default_rng((seed, 2)), examples, n, density):
        edges = itf.attribution_graph(model.U, model.b, x)
        in_play = model.is_real & (edges != 0)
        if in_play.any():
            precisions.append(itf.precision_recall(edges, in_play)[0][in_play.sum() - 1])
    return float(np.mean(precisions))


@lru_cache(maxsize=None)
def block_model_at(seed, density):
    """The block model, trained on features of another density."""
    task = block_task(seed=seed, density=density)
    model = UntiedModel.initialise(np.random.default_rng((seed, 0)), 128, 16)
    train(model, task, 2000, 256, 1e-3, seed=(seed, 0), progress=counter)
    return Trained(task, model, seed)


def attribution_graph(seed, densities=(0.01, 0.03, 0.1, 0.2, 0.3)):
    """Do one example's graphs side-step interference? With sparse features, in models trained on them.

    Precision: of as many strongest edges (or weights) as there are real ones in play, the share that
    is real by Definition 2. Status: our observation. Source of the graphs: Circuit Tracing (2025).
    """
    models = [block_model_at(seed, density) for density in densities]
    graphs = [graph_precision(model, density, seed) for model, density in zip(models, densities)]
    fixed = [graph_precision(models[-1], density, seed) for density in densities]
    weights = [float(itf.precision_recall(m.U, m.is_real)[0][m.is_real.sum() - 1]) for m in models]
    model = models[-1]
    edges = itf.attribution_graph(model.U, model.b, model.x[0])
    figure, axes = new_figure(3, width=5.2)
    heatmap(axes[0], model.U, f"all weights (density {densities[-1]:g})", limit=0.5)
    heatmap(axes[1], edges, "one example's graph", limit=0.5)
    for values, line, marker, label in ((graphs, "-", "o", "graphs"), (weights, "--", "s", "weights"), (fixed, ":", "^", f"graphs, model trained at {densities[-1]:g}")):
        axes[2].plot(densities, values, line, marker=marker, lw=2.5, label=label)
    axes[2].set(xscale="log", xlabel="density of the features", ylabel="precision", ylim=(0, 1.05), xticks=densities, title="strongest edges that are real")
    axes[2].set_xticks(densities, [f"{d:g}" for d in densities])
    axes[2].minorticks_off()
    axes[2].legend(loc="lower left", fontsize=10)
    caption(figure, f"Graphs of models trained on sparse features ({densities[0]:g}) are {100 * graphs[0]:.0f} % real at the top, on dense ones ({densities[-1]:g}) {100 * graphs[-1]:.0f} %; "
            f"global weights {100 * weights[0]:.0f} % and {100 * weights[-1]:.0f} %. Sparse input alone, to a model trained on dense features, does not help: {100 * fixed[0]:.0f} %.")
    return figure, {"sparse graphs": graphs[0], "dense graphs": graphs[-1], "graphs": graphs, "weights": weights, "fixed": fixed}


def adversarial(seed, examples=128, draws=20):
    """Can interference be used against the model? A small step along it does what noise never does.

    Excess error is measured against the ideal circuit's own answer to the perturbed input, so a
    perfect model scores 0. Filtered: the real part by Definition 2. Status: our observation.
    """
    model, rng = block_model(seed), np.random.default_rng((seed, 3))
    A, v, x = model.task.A, model.task.v, model.x[:examples]
    real, _ = itf.decompose_by_loss(model.U, model.dL, THRESHOLD)
    norm = float(np.linalg.norm(x, axis=1).mean())
    fractions = np.array([0.02, 0.05, 0.1, 0.15, 0.2])
    worst, random, same, own = [], [], [], []
    for size in fractions * norm:
        delta, excess = itf.worst_case_perturbation(model.U, model.b, A, v, x, size)
        noise = rng.normal(size=(draws, *x.shape))
        noise *= size / np.linalg.norm(noise, axis=2, keepdims=True)
        worst.append(excess.mean())
        random.append(np.mean([itf.excess_error(model.U, model.b, A, v, x, d).mean() for d in noise]))
        same.append(itf.excess_error(real, model.b, A, v, x, delta).mean())
        own.append(itf.worst_case_perturbation(real, model.b, A, v, x, size)[1].mean())
    figure, ax = new_figure(1, width=8.5, height=6)
    for values, line, marker, label in ((worst, "-", "o", "whole model, worst case"), (own, "-.", "s", "filtered model, its own worst case"),
                                        (same, "--", "^", "filtered model, the whole model's worst case"), (random, ":", "x", "whole model, random direction")):
        ax.plot(fractions, values, line, marker=marker, lw=2.5, ms=8, label=label)
    ax.axhline(0, color="k", lw=1, label="perfect model: 0")
    ax.set(xlabel="length of the perturbation / mean length of x", ylabel="excess squared error", title="error that a perturbation adds")
    ax.legend(loc="upper left")
    k = int(np.flatnonzero(fractions == 0.1)[0])
    caption(figure, f"At a tenth of the input's length the worst case adds {worst[k]:.2f}, a random direction {random[k]:.3f}: {worst[k] / random[k]:.0f} times less. The same "
            f"perturbation adds {same[k]:.2f} without interference; aimed anew, at the weights the filtered model lacks, {own[k]:.2f}.")
    return figure, {"worst case": float(worst[k]), "random": float(random[k]), "filtered, same": float(same[k]), "filtered, own": float(own[k]),
                    "ratio": float(worst[k] / random[k])}


def by_angle(W):
    """The Gram matrix W.T @ W of features in the plane, W (2, n), in the order of their angles."""
    W = W[:, np.argsort(np.arctan2(W[1], W[0]))]
    return W.T @ W


def off_circulant(G):
    """Distance to the nearest circulant over the length of G."""
    return float(np.linalg.norm(G - itf.nearest_circulant(G)) / np.linalg.norm(G))


def equivariance(seed):
    """What is the pentagon, as a map? A convolution over the group of five rotations.

    Sorted by angle, U is circulant: it commutes with rotating the features. Its spectrum is that of
    rotations in a plane: power at frequencies +1 and -1 only. Status: our observation. Source of the
    idea: Naturally Occurring Equivariance in Neural Networks (Olah et al., Distill 2020).
    """
    G, control = by_angle(pentagon_model(seed, 0.05, 1.0).W), by_angle(pentagon_model(seed, 0.05, 0.9).W)
    rng = np.random.default_rng((seed, 4))
    chance = float(np.median([off_circulant(by_angle(rng.normal(size=(2, 5)))) for _ in range(200)]))
    distance, control_distance = off_circulant(G), off_circulant(control)
    power = np.abs(np.fft.fft(itf.nearest_circulant(G)[0]))
    figure, axes = new_figure(4, width=4.2)
    for ax, matrix, title in ((axes[0], G, "U, by angle"), (axes[1], itf.nearest_circulant(G), "nearest circulant")):
        heatmap(ax, matrix, title, limit=1)
        for i, j in np.ndindex(5, 5):
            ax.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", fontsize=10, color="white" if abs(matrix[i, j]) > 0.6 else "k")
    axes[2].bar(["0", "+1", "+2", "-2", "-1"], power, color=REAL["color"])
    axes[2].set(title="spectrum", xlabel="frequency", ylabel="|eigenvalue|")
    bars = axes[3].barh(["equal\nimportance", "importance\n0.9^i", "random\nvectors"], [100 * d for d in (distance, control_distance, chance)],
                        color=[REAL["color"], INTERFERENCE["color"], "0.6"])
    axes[3].bar_label(bars, fmt="%.1f %%")
    axes[3].set(title="distance to a circulant", xlabel="% of |U|", xlim=(0, 130 * chance))
    off_peak = float(power[[0, 2, 3]].max() / power.max())
    caption(figure, f"Gradient descent found a convolution over C5: U is {100 * distance:.2f} % from circulant, and the largest eigenvalue away from frequencies +-1 is "
            f"{100 * off_peak:.2f} % of the largest. With unequal importance the symmetry is only approximate.")
    return figure, {"distance to a circulant": distance, "control": control_distance, "random": chance, "off-peak": off_peak}


def steering(seed, feature=0, strength=0.5):
    """What else moves when one feature is steered? Its column of U: every feature that it meets.

    v is the difference of means; h + strength v is what the rest of the model sees. Status: exact in
    z for v along W_down's column; measured with v estimated. Source of the recipe: Persona Vectors
    (arXiv 2507.21509).
    """
    model = simple_model(seed)
    W, U, x = model.model.W, model.U, model.x
    h = x @ W.T
    v = itf.steering_vector(h, x[:, feature] > 0)
    z = h @ W + model.b
    steered = (h + strength * v) @ W + model.b
    shift = np.maximum(steered, 0) - np.maximum(z, 0)                  # (B, n)
    open_gates = (z > 0) & (steered > 0)
    times = open_gates.sum(axis=0)
    in_open = np.sum(shift * open_gates, axis=0) / np.maximum(times, 1)
    others, seen = np.arange(len(U)) != feature, times >= 30
    figure, axes = new_figure(2, width=6.4, height=5)
    rows = ((axes[0], in_open, "where gates stay open"), (axes[1], shift.mean(axis=0), "over all examples"))
    numbers = {}
    for ax, effect, title in rows:
        pick = others & seen
        numbers[title] = correlation(effect[pick], U[pick, feature])
        ax.scatter(U[pick, feature], effect[pick], s=40, **{**INTERFERENCE, "marker": "o"}, label="other features")
        ax.scatter(U[feature, feature], effect[feature], s=110, **REAL, label=f"feature {feature}, steered")
        ax.axhline(0, color="0.8", zorder=0)
        ax.set(title=f"{title}: r = {numbers[title]:.2f}", xlabel=f"column {feature} of U", ylabel="change of the output")
    axes[0].legend(loc="upper left")
    closed = float(np.mean(~open_gates))
    caption(figure, f"Where gates stay open the side effects are column {feature} of U (r = {numbers['where gates stay open']:.3f}, other features only). "
            f"Over all examples {100 * closed:.0f} % of gates are shut before or after, and most side effects vanish in the relu.")
    return figure, {"correlation, open gates": numbers["where gates stay open"], "correlation, all": numbers["over all examples"], "features seen": int(seen.sum())}


def training(seed, frames=36):
    """How do the pentagon and the two kinds of weight come about? An animation (always a GIF).

    Status: reproduced, as a film. Source: Toy Models of Superposition and the note.
    """
    steps = np.unique(np.geomspace(1, 600, frames - 1).astype(int))
    steps = [0, *steps.tolist()]
    small = TiedModel.initialise(np.random.default_rng((seed, 0)), 5, 2, scale=0.3)
    large = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    small_film = train(small, identity_task(5, 0.05), steps[-1], learning_rate=1e-2, seed=seed, snapshots=steps).snapshots
    large_film = train(large, identity_task(100, 0.02), steps[-1], seed=seed, snapshots=steps).snapshots
    diagonal, film = np.eye(100, dtype=bool), []
    for step in steps:
        W, U = small_film[step]["W"], large_film[step]["W"].T @ large_film[step]["W"]
        figure, (left, right) = new_figure(2, width=4.8)
        for i, (across, up) in enumerate(W.T):
            left.annotate("", (across, up), (0, 0), arrowprops={"arrowstyle": "->", "lw": 3, "color": f"C{i}"})
        left.set(title=f"5 features, step {step}", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
        right.hist([U[~diagonal], U[diagonal]], np.linspace(-1, 1.4, 61), histtype="stepfilled", log=True, alpha=0.8,
                   color=[INTERFERENCE["color"], REAL["color"]], label=["interference", "real"])
        right.set(title="100 features in 20 dimensions", xlabel="virtual weight", ylabel="weights", ylim=(0.7, 5000))
        right.legend(loc="upper right")
        film.append(figure)
    return film, {"frames": len(film), "final diagonal": float(U[diagonal].mean())}


FIGURES = {builder.__name__: builder for builder in (
    pentagon, virtual_weights, decomposition, weight_histogram, two_models, block_two_models, block_histogram,
    learned_vs_ideal, precision_recall, loss_gain, weight_sharing, converged_geometry, correlated_features,
    definitions, second_order, pruned_loss, effectiveness, attribution_graph, adversarial, equivariance,
    steering, training)}


# --- The command line -------------------------------------------------------------------------------


def encode(figure, suffix):
    """The bytes of a figure file, the same for the same figure: no dates, fixed ids."""
    buffer = io.BytesIO()
    if suffix == "gif":
        frames = []
        for frame in figure:
            canvas = FigureCanvasAgg(frame)
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64))
        frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:], duration=[150] * (len(frames) - 1) + [3000], loop=0)
        return buffer.getvalue()
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[suffix]
    figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def write_whole(path, content):
    """Write a file under another name, then rename it: nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def make(name, seed, folder, suffix):
    """Build one figure and write it; returns (path, headline, figure)."""
    with matplotlib.rc_context(STYLE):
        figure, numbers = FIGURES[name](seed)
        suffix = "gif" if isinstance(figure, list) else suffix
        path = folder / f"{name}.{suffix}"
        write_whole(path, encode(figure, suffix))
    label, value = next(iter(numbers.items()))
    return path, f"{label} {value:.3g}", figure


def parse(arguments):
    """The command line, checked; exits with 2 and one line for what cannot be done."""
    parser = argparse.ArgumentParser(description="Make the figures of the lesson.",
                                     epilog="A whole run takes under a minute on a laptop.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to make (default: all)")
    parser.add_argument("--list", action="store_true", help="say what each figure shows, and stop")
    parser.add_argument("--out", type=pathlib.Path, default="figures", metavar="DIR", help="folder (default: figures)")
    parser.add_argument("--format", choices=("png", "svg", "pdf"), default="png", help="of the files (default: png)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything, 0 or more (default: 0)")
    parser.add_argument("--show", action="store_true", help="open each figure in a window, too")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure named {', '.join(unknown)}; there are: {', '.join(FIGURES)}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, got {options.seed}")
    return parser, options


def show(figures):
    """Open finished figures in windows and wait until they are closed."""
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    for name, figure in figures.items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pyplot.figure(name, figsize=figure.get_size_inches()).figimage(np.asarray(canvas.buffer_rgba()))
    pyplot.show()


def main(arguments=None):
    """Make what the command line asks for; returns the exit code."""
    parser, options = parse(arguments)
    if options.list:
        for name, builder in FIGURES.items():
            print(f"{name:20} {builder.__doc__.splitlines()[0]}")
        return 0
    if options.show:
        from matplotlib import pyplot
        pyplot.switch_backend("auto") if False else None
        if matplotlib.get_backend().lower() == "agg":
            parser.error("--show needs a display, and there is none; the files need no display")
    names, failed, shown, start = options.names or list(FIGURES), [], {}, time.perf_counter()
    for k, name in enumerate(names, 1):
        began = time.perf_counter()
        try:
            path, headline, shown[name] = make(name, options.seed, options.out, options.format)
            outcome = f"{headline} -> {path}"
        except Exception as error:
            failed.append(name)
            outcome = f"FAILED: {type(error).__name__}: {error}"
        print(f"[{k:2}/{len(names)}] {name:20} {time.perf_counter() - began:5.1f} s  {outcome}", flush=True)
    print(f"{len(names) - len(failed)} figures in {time.perf_counter() - start:.1f} s")
    if options.show:
        show(shown)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped; figures made so far are whole")
