"""Every figure of the lesson, one function each, in reading order.

    python plots.py                      all figures into figures/
    python plots.py pentagon steering    only these
    python plots.py --list               what there is, a line each
    python plots.py --help               everything else

Each builder takes a seed, computes, draws, and returns (figure, numbers): a matplotlib Figure and a
dict of the numbers in it, the headline first. Its docstring gives the question and the answer, the
status of the result (exact, reproduced from a source, or our observation) and the source, where
"the note" is A Toy Model of Interference Weights. `test_all.py` checks the numbers.

Two configurations carry most figures. *simple*: a tied model gives back 100 features through 20
dimensions, stopped early (the note does so on purpose) or converged. *block*: an untied model
learns a random block-diagonal circuit on 128 features through 16 dimensions. Models are trained
once and shared. All is a function of the seed: a figure is the same made alone or with the others.
"""
import os

for library in ("OPENBLAS", "OMP", "MKL"):  # before NumPy loads: threads fight over small matrices
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import argparse
import io
import pathlib
import sys
import tempfile
import textwrap
import time
from functools import cached_property, lru_cache

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import interference as itf
from toymodel import (LiftedModel, TiedModel, UntiedModel, block_task, correlated_task,
                      identity_task, relu, sparse_features, train)

STYLE = {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 100,
         "lines.linewidth": 2.5, "svg.hashsalt": "interference weights"}
DIVERGING = "RdBu"  # blue: positive or helpful; red: negative or harmful; white: 0
BLUE, BROWN = "#0B5394", "#B0803A"
REAL, INTERFERENCE = {"color": BLUE, "marker": "^"}, {"color": BROWN, "marker": "."}
THRESHOLD = 1e-4    # Definition 2: a weight with a larger dL is real
DL_LIMIT = 0.02     # colours saturate at this dL

# --- Models, trained once and shared --------------------------------------------------------------


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
        return {"ideal": self.dL, **itf.all_scores(self.U, self.b, self.x, self.y)}

    def loss_with(self, U, b=None):
        """The loss with other weights, and another bias if one is given."""
        return LiftedModel(U, self.b if b is None else b).loss(self.x, self.y)


def counter(done, steps):
    """A live count of training steps, on a terminal only."""
    if sys.stderr.isatty() and (done % 100 == 0 or done == steps):
        print(f"  training: step {done} of {steps}\x1b[K", end="\r", file=sys.stderr, flush=True)


@lru_cache(maxsize=None)
def pentagon_model(seed, density, decay, tries=4):
    """5 features in 2 dimensions, importance decay^i; the best of a few starts, by final loss."""
    task = identity_task(5, density, importance=decay ** np.arange(5))
    x, y = task.batch(np.random.default_rng((seed, 1)), 32768)
    models = [TiedModel.initialise(np.random.default_rng((seed, t)), 5, 2) for t in range(tries)]
    for model in models:
        train(model, task, 1500, 1024, 1e-2, seed, schedule="cosine", progress=counter)
    return min(models, key=lambda model: model.loss(x, y, task.importance))


@lru_cache(maxsize=None)
def simple_model(seed, steps=300, density=0.02, learning_rate=1e-3):
    """The simple configuration: 300 steps leave it undertrained, 3000 or more converged."""
    task = identity_task(100, density)
    model = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    schedule = "constant" if steps <= 300 else "cosine"
    train(model, task, steps, 1024, learning_rate, seed, schedule, progress=counter)
    return Trained(task, model, seed)


@lru_cache(maxsize=None)
def block_model(seed, run=0, density=0.3):
    """The block configuration: `seed` fixes the circuit, each run trains on it independently."""
    task = block_task(seed=seed, density=density)
    model = UntiedModel.initialise(np.random.default_rng((seed, run)), 128, 16)
    train(model, task, 2000, 256, 1e-3, (seed, run), progress=counter)
    return Trained(task, model, seed)


@lru_cache(maxsize=None)
def block_mask(seed):
    """The learned mask of the block model as booleans, the bias trained with it, and their loss."""
    model = block_model(seed)
    mask, b = itf.learned_mask(model.U, model.b, model.task, penalty=0.001, batch_size=256,
                               seed=seed, progress=counter)
    return mask > 0.5, b, model.loss_with(np.where(mask > 0.5, model.U, 0), b)


def correlated_model(seed):
    """Two sets of 100 features that are never active together, through 20 dimensions."""
    task = correlated_task(100, n_active=2)
    model = TiedModel.initialise(np.random.default_rng(seed), task.n_features, 20)
    train(model, task, 2000, 1024, 2e-3, seed, progress=counter)
    return Trained(task, model, seed, examples=16384)


# --- Drawing --------------------------------------------------------------------------------------


def new_figure(columns, rows=1, width=4.6, height=4.2, **options):
    """A Figure without pyplot, and its axes."""
    figure = Figure(figsize=(width * columns, height * rows + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def caption(figure, text):
    """The sentences under a figure: what to see, with its numbers."""
    text = " ".join(text.split()).replace(" %", "\u00a0%")  # a space that does not break
    figure.supxlabel(textwrap.fill(text, int(11 * figure.get_figwidth())), fontsize=12)


def heatmap(axes, matrix, title, limit=1, digits=None):
    """A matrix in colours symmetric about 0; `digits` also writes the entries of a small one."""
    image = axes.imshow(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set(title=title, xlabel="source feature j", ylabel="target feature i")
    axes.figure.colorbar(image, ax=axes, shrink=0.75)
    if digits is not None:
        for (i, j), value in np.ndenumerate(matrix):
            axes.text(j, i, f"{np.round(value, digits) + 0:.{digits}f}", ha="center", va="center",
                      fontsize=11, color="white" if abs(value) > 0.6 * limit else "black")


def arrows(axes, W, title):
    """Features in the plane: the columns of W (2, n) as arrows, numbered where they are long."""
    for i, (right, up) in enumerate(W.T):
        style = {"arrowstyle": "->", "lw": 3, "color": f"C{i}"}
        axes.annotate("", (right, up), (0, 0), arrowprops=style)
        if np.hypot(right, up) > 0.3:
            axes.text(1.16 * right, 1.16 * up, str(i), ha="center", va="center", weight="bold")
    axes.set(title=title, xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")


def weight_bars(axes, weights, dL, title, bins=60, limit=DL_LIMIT):
    """A histogram of weights on a log scale; a bar's colour is the mean dL of the weights in it."""
    counts, edges = np.histogram(weights, bins)
    totals, _ = np.histogram(weights, edges, weights=dL)
    colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(-limit, limit), DIVERGING)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", edgecolor="0.4", linewidth=0.5,
             color=colours.to_rgba(totals / np.maximum(counts, 1)))
    axes.set(title=title, xlabel="virtual weight", ylabel="number of weights", yscale="log")
    axes.figure.colorbar(colours, ax=axes, label="mean dL (> 0 helps)", shrink=0.75)


def scatter(axes, horizontal, vertical, is_real, **labels):
    """One point per weight, told apart by colour and by marker; real weights lie on top."""
    for mask, style, size, name in ((~is_real, INTERFERENCE, 12, "interference"),
                                    (is_real, REAL, 30, "real")):
        axes.scatter(horizontal[mask], vertical[mask], s=size, alpha=0.6, linewidths=0,
                     label=f"{name} ({mask.sum()})", rasterized=True, **style)
    axes.axhline(0, color="0.8", lw=1, zorder=0)
    axes.axvline(0, color="0.8", lw=1, zorder=0)
    axes.set(**labels)


def correlation(a, b):
    """Pearson's r of all entries of two arrays."""
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


# --- The figures: superposition, and weights in superposition -------------------------------------


def pentagon(seed):
    """How do 5 features share 2 dimensions? The sparser they are, the more of them move in.

    Dense features: the two most important get an axis each. Sparser: two antipodal pairs. Sparser
    still: all five, as a regular pentagon. Status: reproduced. Source: Toy Models of Superposition
    (Elhage et al. 2022), introduction.
    """
    decay, densities = 0.9, (1.0, 0.2, 0.05)
    figure, axes = new_figure(3, 2)
    gaps = {}
    for density, plane, grid in zip(densities, *axes):
        W = pentagon_model(seed, density, decay).W
        stored = W[:, np.linalg.norm(W, axis=0) > 0.5]
        angles = np.sort(np.degrees(np.arctan2(stored[1], stored[0])))
        gaps[f"gaps at density {density:g}"] = np.diff(angles, append=angles[0] + 360).tolist()
        arrows(plane, W, f"density {density:g}")
        heatmap(grid, W.T @ W, "virtual weights U", digits=1)
    last = gaps[f"gaps at density {densities[-1]:g}"]
    caption(figure, f"""Importance {decay:g}^i. Arrows are the columns of W: features 0 to 4 in two
        dimensions. At density {densities[-1]:g} neighbours are {min(last):.0f} to {max(last):.0f}
        degrees apart: a pentagon. What is off the diagonal of U is interference.""")
    return figure, {"widest gap (degrees)": max(last), **gaps}


def virtual_weights(seed):
    """What is the small model, lifted to feature space? The identity, plus interference.

    Status: reproduced. Source: the note.
    """
    model = simple_model(seed)
    m, n = model.model.W.shape
    spread, diagonal = model.U[~np.eye(n, dtype=bool)].std(), np.diag(model.U).mean()
    figure, axes = new_figure(2, width=5.6)
    heatmap(axes[0], model.task.A, "ideal circuit A")
    heatmap(axes[1], model.U, "virtual weights U, trained")
    caption(figure, f"""The task wants the identity. The model carries {n} features in {m}
        dimensions: its diagonal is {diagonal:.2f} on average, and the rest, which should be 0, has
        standard deviation {spread:.2f}.""")
    return figure, {"interference std": float(spread), "diagonal mean": float(diagonal)}


def decomposition(seed):
    """Can U be split into real and interference weights? Yes, and here two definitions agree.

    Definition 1: real is what training without a bottleneck arrives at. Definition 2: real is each
    weight whose ablation raises the loss by more than 1e-4. Status: reproduced. Source: the note.
    """
    model = simple_model(seed)
    U_star, b_star = itf.ideal_weights(model.U, model.b, model.task, seed=seed, progress=counter)
    off_identity = float(np.abs(U_star - model.task.A).max())
    loss_ratio = model.loss_with(U_star, b_star) / model.loss
    on_diagonal = int(np.diag(model.is_real).sum())
    splits = (("Definition 1", "ideal U*", itf.decompose_by_ideal(model.U, U_star)),
              ("Definition 2", f"real: dL > {THRESHOLD:g}",
               itf.decompose_by_loss(model.U, model.dL, THRESHOLD)))
    figure, axes = new_figure(3, 2)
    for row, (name, title, (real, interference)) in zip(axes, splits):
        heatmap(row[0], model.U, f"{name}: U")
        heatmap(row[1], real, f"=  {title}")
        heatmap(row[2], interference, "+  interference")
    caption(figure, f"""Trained without a bottleneck, U* is the identity to
        {100 * off_identity:.1f} % and has {100 * loss_ratio:.2f} % of the model's loss. By loss,
        {model.is_real.sum()} weights are real, {on_diagonal} of them on the diagonal.""")
    return figure, {"interference std": float(model.U[~model.is_real].std()),
                    "U* off identity": off_identity, "ideal loss ratio": loss_ratio,
                    "real": int(model.is_real.sum()), "real on diagonal": on_diagonal}


def weight_histogram(seed):
    """What would one see with nothing but the weights? A bulk around 0 and a bump of real ones.

    Status: reproduced. Source: the note; the shape is that of the logit-weight histograms in
    Towards Monosemanticity (Bricken et al. 2023), for example of its Hebrew feature.
    """
    model, target = simple_model(seed), 0
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    limit = float(model.dL.max())  # these features are so rare that no weight is worth DL_LIMIT
    figure, axes = new_figure(2, width=6)
    weight_bars(axes[0], model.U, model.dL, f"all {model.U.size} weights", limit=limit)
    weight_bars(axes[1], model.U[target], model.dL[target], f"weights into feature {target}",
                bins=40, limit=limit)
    caption(figure, f"""Interference: a bulk at {rest.mean():.2f} +- {rest.std():.2f}. Real weights:
        a bump at {real.mean():.2f}. What makes this model easy is the gap between the largest
        interference weight, {rest.max():.2f}, and the smallest real one, {real.min():.2f}.""")
    return figure, {"real mean": float(real.mean()), "interference mean": float(rest.mean()),
                    "gap": float(real.min() - rest.max())}


def two_models(seed):
    """Does interference repeat when a model is trained again? No; real weights do.

    Undertrained: two seeds share no interference. Converged: each still has its own, but it has
    structure, with a hard upper edge. Status: reproduced. Source: the note.
    """
    figure, axes = new_figure(2, width=5.4, height=5)
    numbers = {}
    for ax, name, steps in zip(axes, ("undertrained", "converged"), (300, 3000)):
        first, second = simple_model(seed, steps), simple_model(seed + 1, steps)
        real = first.task.A > 0
        r = correlation(first.U[~real], second.U[~real])
        edge = np.quantile(first.U[~real], 0.999)
        scatter(ax, first.U, second.U, real, title=f"{name}: interference r = {r:.2f}",
                xlabel="U, one seed", ylabel="U, another seed", aspect="equal",
                xlim=(-0.9, 1.5), ylim=(-0.9, 1.5))
        numbers |= {f"{name} interference r": r, f"{name} edge": float(edge),
                    f"{name} diagonal sd": float(first.U[real].std()),
                    f"{name} smallest real": float(first.U[real].min())}
        ax.legend(loc="lower right", fontsize=11, markerscale=1.5)
    axes[1].axvline(edge, color="k", lw=1, linestyle="--")
    axes[1].text(edge + 0.03, 0.5, f"99.9 % are\nbelow {edge:.2f}")
    caption(figure, f"""Each point is one virtual weight in two models, after 300 and 3000 steps.
        Interference is uncorrelated. After convergence the real weights of a model are nearly equal
        (sd {numbers['converged diagonal sd']:.3f}), and interference ends near {edge:+.2f}.""")
    return figure, numbers


def block_two_models(seed):
    """And in the hard model? Real weights agree in part, interference hardly at all.

    Real: by Definition 2, in the first run. Status: reproduced; the settings at which it shows
    (both matrices learned, stopped early) are not in the note: we found them by search.
    """
    first, second = block_model(seed), block_model(seed, run=1)
    real = first.is_real
    r_real = correlation(first.U[real], second.U[real])
    r_rest = correlation(first.U[~real], second.U[~real])
    figure, ax = new_figure(1, width=7.5, height=6.5)
    scatter(ax, first.U, second.U, real, xlabel="U, one run", ylabel="U, another run",
            aspect="equal", title="block model: same circuit, two runs")
    ax.legend(loc="lower right", markerscale=1.5)
    caption(figure, f"""Correlation between the runs: {r_real:.2f} over the {real.sum()} real
        weights, {r_rest:.2f} over interference.""")
    return figure, {"real r": r_real, "interference r": r_rest}


# --- The figures: the hard model, and heuristics --------------------------------------------------


def block_histogram(seed):
    """What if real and interference weights overlap? Then no threshold on the weight finds them.

    Status: reproduced. Source: the note; the shape is that of the base64 feature in Towards
    Monosemanticity (Bricken et al. 2023).
    """
    model = block_model(seed)
    real, rest = model.U[model.is_real], model.U[~model.is_real]
    overlap = float(np.mean(real < np.quantile(rest, 0.99)))
    figure, (whole, positive) = new_figure(2, width=6)
    weight_bars(whole, model.U, model.dL, f"all {model.U.size} weights", bins=50)
    _, _, (bars, _) = positive.hist([real, rest], np.linspace(0, model.U.max(), 31), stacked=True,
                                    color=[BLUE, BROWN], edgecolor="white",
                                    label=["real (hatched)", "interference"])
    for bar in bars:
        bar.set_hatch("//")
    positive.set(title="the positive ones, real at the bottom", xlabel="virtual weight",
                 ylabel="number of weights (cut off)", ylim=(0, len(real)))
    positive.legend()
    caption(figure, f"""Interference: mean {rest.mean():.2f}, standard deviation {rest.std():.2f}.
        Of the {len(real)} real weights {100 * overlap:.0f} % hide in it: they are smaller than the
        top 1 % of interference.""")
    return figure, {"interference std": float(rest.std()), "interference mean": float(rest.mean()),
                    "overlap": overlap}


def learned_vs_ideal(seed):
    """What became of each ideal weight? It was shrunk or not learned; others were made up.

    Status: reproduced. Source: the note.
    """
    model = block_model(seed)
    A, U, dL = model.task.A, model.U, model.dL
    wanted = A > 0
    shrunk, unlearned = np.mean(U[wanted] < A[wanted]), np.mean(U[wanted] < 0.2 * A[wanted])
    spread = np.where(wanted, A, np.random.default_rng(seed).uniform(-0.02, 0.02, A.shape))
    figure, ax = new_figure(1, width=8.5, height=6)
    for mask, marker, size in ((~wanted, ".", 15), (wanted, "^", 55)):
        points = ax.scatter(spread[mask], U[mask], c=dL[mask], cmap=DIVERGING, vmin=-DL_LIMIT,
                            vmax=DL_LIMIT, marker=marker, s=size, linewidths=0.8, rasterized=True,
                            edgecolors=np.where(model.is_real[mask], "black", "0.7"))
    figure.colorbar(points, ax=ax, label="dL (> 0 helps)")
    ax.plot([0, 1], [0, 1], "k--", lw=1)
    ax.axhline(0, color="0.7", lw=1, zorder=0)
    ax.text(0.2, 0.6, "learned exactly", weight="bold")
    ax.text(1.02, 0.45, "shrunk", weight="bold")
    ax.text(1.02, -0.05, "not learned", weight="bold")
    ax.text(0.04, 0.95 * U.min(), "interference (A = 0)", weight="bold")
    ax.set(xlabel="ideal weight A (zeros are spread out)", ylabel="learned weight U",
           xlim=(-0.1, 1.3), title="block model: learned against ideal")
    caption(figure, f"""Of {wanted.sum()} ideal weights {100 * shrunk:.0f} % lie below the diagonal,
        and {100 * unlearned:.0f} % have not reached a fifth of their value. Where A = 0, weights
        reach from {U[~wanted].min():.1f} to {U[~wanted].max():.1f}. Black rims: real by
        Definition 2.""")
    return figure, {"shrunk": float(shrunk), "unlearned": float(unlearned),
                    "largest interference": float(U[~wanted].max())}


SCORE_STYLES = {  # how a ranking is drawn everywhere: label, colour (Okabe and Ito's palette), line
    "ideal": ("ideal (exact dL)", "black", "-"),
    "second_order": ("second order", "#0072B2", "--"),
    "era": ("ERA", "#D55E00", "-."),
    "guarded_twera": ("TWERA, guarded", "#009E73", (0, (6, 1, 1, 1, 1, 1))),
    "twera": ("TWERA, published", "#009E73", ":"),
    "weight": ("weight", "#CC79A7", (0, (2, 1))),
    "frequency": ("frequency", "#7F7F7F", (0, (1, 2.5))),
}


def precision_recall(seed):
    """Can cheap heuristics find the real weights? Better than the weight can; none is perfect.

    Real: exact dL > 1e-4. Second order answers the note's "can we beat this?". Status: the order of
    the heuristics is reproduced; second order and TWERA's guard are ours. Source: the note.
    """
    model = block_model(seed)
    figure, ax = new_figure(1, width=10.5, height=6)
    area, at_20 = {}, {}
    for name, (label, color, line) in SCORE_STYLES.items():
        precision, recall = itf.precision_recall(model.scores[name], model.is_real)
        area[name] = itf.average_precision(precision, recall)
        at_20[f"{name} at recall 0.2"] = float(precision[np.searchsorted(recall, 0.2)])
        ax.plot(recall, precision, ls=line, color=color, label=f"{label}: {area[name]:.2f}")
    base = float(model.is_real.mean())
    rate = relu(model.x @ model.U.T + model.b).mean(axis=0)            # (n,), E[y_hat_i]
    targets = itf.ranking(model.scores["twera"])[:100] // len(rate)    # of the top 100 weights
    rare = int(np.sum(rate[targets] < 0.01 * rate.max()))
    ax.axhline(base, color="0.6", lw=1, label=f"base rate: {base:.3f}")
    ax.set(xlabel="recall: real weights found", ylabel="precision: found weights that are real",
           ylim=(0, 1.04), title=f"finding {model.is_real.sum()} real weights among {model.U.size}")
    ax.legend(title="average precision", loc="center left", bbox_to_anchor=(1.02, 0.5),
              handlelength=3.5)
    caption(figure, f"""Published TWERA collapses: {rare} of its top 100 weights lead into targets
        whose mean output is below 1 % of the largest. The guard keeps those denominators up.""")
    return figure, {"era": area["era"], **area, **at_20, "base rate": base,
                    "rare in TWERA's top 100": rare,
                    "second order r": correlation(model.scores["second_order"], model.dL)}


def loss_gain(seed):
    """How much of the loss do a few precise weights explain? More than all of them together.

    Loss gain: the sum of dL over the kept weights, here over that of all real weights, the oracle
    (weights with 0 < dL < 1e-4 can add a little). Status: reproduced; second order is ours. Source:
    the note.
    """
    model = block_model(seed)
    oracle = model.dL[model.is_real].sum()
    same = float(model.dL.sum() / oracle)
    figure, ax = new_figure(1, width=11, height=6)
    numbers = {"all over oracle": same}
    for name in ("second_order", "era", "guarded_twera", "weight"):
        label, color, line = SCORE_STYLES[name]
        precision, _ = itf.precision_recall(model.scores[name], model.is_real)
        gain = itf.loss_gain(model.scores[name], model.dL) / oracle
        at_80 = gain[np.flatnonzero(precision >= 0.8)[-1]] if precision.max() >= 0.8 else np.nan
        numbers |= {f"{name} best": float(gain.max()), f"{name} at 80 %": float(at_80)}
        ax.plot(precision, gain, ls=line, color=color,
                label=f"{label}: {at_80:.2f} at 80 %, best {gain.max():.2f}")
        ax.plot(0.8, at_80, "o", color=color, ms=9)
    ax.plot(1, 1, "*", color="k", ms=18, label="oracle: every real weight, nothing else")
    ax.axhline(same, color="k", lw=1, ls="--", label=f"same loss as the original: {same:.2f}")
    ax.axhspan(same, 1.02, color="0.93", zorder=0)
    ax.text(0.36, same + 0.015, "better than the original")
    ax.axvline(0.8, color="0.6", lw=1)
    ax.set(xlabel="precision of the kept weights", ylabel="loss gain / the oracle's",
           ylim=(0, 1.05), title="loss gain against precision, prefix by prefix")
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    caption(figure, f"""All weights together gain {same:.2f} of what the real ones alone do:
        interference costs the rest. In the shaded stretch a prefix of a ranking beats the whole
        model, by this measure (the true loss is in pruned_loss).""")
    return figure, numbers


# --- The figures: the appendices ------------------------------------------------------------------


def train_middle(directions, active, steps=400, learning_rate=0.2):
    """M (m, m) of z = D M D.T x, trained to double the `active` features, one of them per example.

    D = `directions` (n, m), a unit row per feature, stays fixed. With U = D M D.T the chain rule is
    dM = W_up.T @ dU @ W_down.T = D.T @ dU @ D. Plain gradient descent, from 0.001 I: at M = 0 every
    gate is shut. Descent, unlike Adam, never leaves the span of its gradients.
    """
    n, m = directions.shape
    M, x = 0.001 * np.eye(m), np.eye(n)[active]                        # x (len(active), n)
    for _ in range(steps):
        lifted = LiftedModel(directions @ M @ directions.T, np.zeros(n))
        dU = lifted.loss_and_gradients(x, 2 * x)[1]["U"]
        M -= learning_rate * directions.T @ dU @ directions
    return M


def weight_sharing(seed):
    """Do the weights of circuits in superposition add? Only if they are orthogonal.

    Two circuits double a feature each, through one middle matrix M. Unit directions d_1, d_2 at an
    angle t in [90, 180] degrees; output i is relu(d_i M d_j x_j). Alone, descent from 0 arrives at
    M_i = 2 d_i d_i^T, the smallest M with d_i M d_i = 2. Together it grows both outer products,
    M = c (d_1 d_1^T + d_2 d_2^T), as the cross outputs, 2 c cos t <= 0, are shut by the relu. Then
    d_1 M d_1 = c (1 + cos^2 t) = 2, so

        M = (M_1 + M_2) / (1 + cos^2 t):    1 at 90 degrees (weights add), 1/2 at 180 (shared)

    Nothing here is random. Status: exact (derived), and measured. Source: the note, Appendix 1.
    """
    degrees, fine = np.array([90, 112.5, 135, 157.5, 180]), np.linspace(90, 180, 200)
    derived, ratios = 1 / (1 + np.cos(np.radians(fine))**2), []
    for t in np.radians(degrees):
        D = np.array([[1, 0], [np.cos(t), np.sin(t)]])
        joint, total = train_middle(D, [0, 1]), train_middle(D, [0]) + train_middle(D, [1])
        ratios.append(float(np.vdot(joint, total) / np.vdot(total, total)))
    deviation = float(np.max(np.abs(ratios * (1 + np.cos(np.radians(degrees))**2) - 1)))
    figure, ax = new_figure(1, width=8, height=5)
    ax.plot(fine, derived, color="0.5", label="1 / (1 + cos$^2$ angle), derived")
    ax.plot(degrees, ratios, "o", color=BLUE, ms=11, label="trained")
    ax.set(xlabel="angle between the two circuits' directions (degrees)", xticks=degrees,
           ylabel="joint matrix / sum of separate ones", ylim=(0.4, 1.1),
           title="two circuits share one matrix")
    ax.legend()
    caption(figure, f"""Orthogonal circuits: weights add (ratio {ratios[0]:.2f}). Antipodal ones:
        both use the same weight (ratio {ratios[-1]:.2f}). Largest deviation of the measurement from
        the derivation: {100 * deviation:.2f} %.""")
    return figure, {"largest relative deviation": deviation, "ratios": ratios}


def converged_geometry(seed):
    """What is interference made of after convergence? Of geometry, or of a sharp edge.

    Density 0.25: features sit in pentagons and antipodal pairs. Density 0.001: no clean shapes, but
    no two features come closer than a bound. Status: reproduced. Source: the note, Appendix 2.
    """
    densities = 0.25, 0.001
    dense, sparse = (simple_model(seed, 5000, density, learning_rate=3e-3) for density in densities)
    W = dense.model.W[:, np.linalg.norm(dense.model.W, axis=0) > 0.5]
    W = W / np.linalg.norm(W, axis=0)
    cosines = (W.T @ W)[np.triu_indices(W.shape[1], 1)]
    cos72, cos144 = np.cos(np.radians((72, 144)))
    near = {c: int(np.sum(np.abs(cosines - c) < 0.02)) for c in (-1, cos144, cos72)}
    weights = sparse.U[sparse.task.A == 0]
    used = float(itf.feature_dimensionality(dense.model.W).sum())
    figure, (left, right) = new_figure(2, width=6.5)
    left.hist(cosines, np.linspace(-1.025, 1.025, 83), color=BROWN, log=True)
    for c, name, height in ((-1, "pair", 300), (cos144, "pentagon", 80), (0, "orthogonal", 600),
                            (cos72, "pentagon", 300)):
        left.text(c, height, f" {name}\n {c:.2f}", fontsize=12)
        left.axvline(c, color="k", lw=1, linestyle=":")
    left.set(title=f"density {densities[0]:g}: {W.shape[1]} features stored", ylim=(0.5, 2000),
             xlabel="cosine of two features", ylabel="pairs of features")
    counts, edges, _ = right.hist(weights, 60, color=BROWN)
    densest = float(edges[np.argmax(counts):][:2].mean())  # the middle of the fullest bin
    top = float(weights.max())
    right.axvline(top, color="k", lw=1.5, linestyle="--", label=f"largest: {top:.2f}")
    right.set(title=f"density {densities[1]:g}", xlabel="off-diagonal virtual weight",
              ylabel="number of weights")
    right.legend(loc="upper left")
    caption(figure, f"""Left: {near[cos72]} pairs at {cos72:.2f} and {near[cos144]} at {cos144:.2f}
        (a pentagon has five of each), {near[-1]} antipodal pairs; dimensionalities add up to
        {used:.1f}. Right: the densest bin, at {densest:.2f}, lies just under the largest weight,
        {top:.2f}.""")
    return figure, {"pairs at cos 72": near[cos72], "pairs at cos 144": near[cos144],
                    "antipodal pairs": near[-1], "dimensions used": used,
                    "densest bin": densest, "largest": top}


def correlated_features(seed):
    """Is all interference noise? No: where features are correlated, part makes up for the rest.

    Two sets of 100; features of one set come together, of different sets never. Interference then
    has a low-rank part, the set means. Taking only that away raises the loss; taking all of it away
    lowers it (this is ours). Status: reproduced. Source: the note, Appendix 3.
    """
    model, set_of = correlated_model(seed), np.arange(200) // 100
    off_diagonal = model.task.A == 0
    within = model.U[(set_of[:, None] == set_of) & off_diagonal]
    between = model.U[set_of[:, None] != set_of]
    rest = model.U - itf.set_mean_component(model.U, 100)
    without = model.loss_with(rest) / model.loss
    without_any = model.loss_with(np.diag(np.diag(model.U))) / model.loss
    dL = itf.ablation_effects(model.U, model.b, model.x, model.y, part=rest * off_diagonal)
    helps, harms = float(dL[dL > 0].sum()), float(dL[dL < 0].sum())
    figure, axes = new_figure(3, width=5.2)
    heatmap(axes[0], model.U, "virtual weights U")
    for weights, style, name in ((within, {"color": BLUE}, "within a set"),
                                 (between, {"color": BROWN, "ls": "--"}, "between sets")):
        axes[1].hist(weights, np.linspace(-1, 0.6, 60), histtype="step", lw=2.5, **style,
                     label=f"{name}: mean {weights.mean():+.2f}")
    axes[1].set(title="off-diagonal weights", xlabel="virtual weight", ylabel="number of weights")
    axes[1].legend(loc="upper left", fontsize=11)
    names = ["whole", "no set\nmeans", "no inter-\nference", "residual\nhelps", "residual\nharms"]
    bars = axes[2].bar(names, [1, without, without_any, helps / model.loss, harms / model.loss],
                       color=["0.5", "0.5", "0.5", BLUE, BROWN], edgecolor="white",
                       hatch=["", "", "", "//", "\\\\"])
    axes[2].bar_label(bars, fmt="%.2f")
    axes[2].axhline(0, color="k", lw=1)
    axes[2].set(title="loss, and sums of dL (whole = 1)", ylim=(-0.9, 1.7))
    axes[2].tick_params(axis="x", labelsize=10)
    caption(figure, f"""Removing the set means multiplies the loss by {without:.2f}; removing all
        interference, by {without_any:.2f}. Without the means, what is left of the weights splits
        into parts that help (sum of dL {helps:+.3f}) and that harm ({harms:+.3f}); the loss of the
        whole model is {model.loss:.3f}.""")
    return figure, {"loss without set means": without,
                    "loss without interference": without_any, "within mean": float(within.mean()),
                    "between mean": float(between.mean()), "within sd": float(within.std()),
                    "between sd": float(between.std()), "helps": helps, "harms": harms}


def definitions(seed):
    """Do the definitions agree on the hard model? In part: they ask different questions.

    Definition 1 looks for the circuit, learned or not; Definition 2 removes one weight at a time;
    the mask removes all at once. Status: the disagreement is reproduced; the numbers are ours.
    Source: the note, Appendix 4.
    """
    model = block_model(seed)
    U_star, b_star = itf.ideal_weights(model.U, model.b, model.task, steps=3000, batch_size=256,
                                       learning_rate=0.03, seed=seed, progress=counter)
    mask, _, mask_loss = block_mask(seed)
    real, _ = itf.decompose_by_loss(model.U, model.dL, THRESHOLD)
    called = {"A": model.task.A > 0, "Def. 1": U_star > 0.05, "Def. 2": model.is_real, "mask": mask}
    overlap = np.array([[np.sum(p & q) for q in called.values()] for p in called.values()])
    true = model.loss_with(real) - model.loss
    predicted = float(model.dL[~model.is_real].sum())
    losses = {"whole\nmodel": model.loss, "Def. 1\nU*, b*": model.loss_with(U_star, b_star),
              "mask\nand its b": mask_loss, "Def. 2\nreal part": model.loss + true,
              "Def. 2\npredicted": model.loss + predicted}
    figure, (left, right) = new_figure(2, width=6.8, height=5)
    left.imshow(overlap, cmap="Blues", vmax=2 * overlap.max())
    for (i, j), count in np.ndenumerate(overlap):
        left.text(j, i, count, ha="center", va="center", weight="bold" if i == j else "normal")
    left.set(title="weights that both call real", xticks=range(4), xticklabels=called,
             yticks=range(4), yticklabels=called)
    bars = right.bar(list(losses), list(losses.values()), hatch=["", "", "", "", "//"],
                     color=["0.5", BLUE, BLUE, BLUE, "white"], edgecolor="k")
    right.bar_label(bars, fmt="%.2f")
    right.set(title="loss with the weights that each calls real", ylabel="loss")
    right.tick_params(axis="x", labelsize=11)
    missed = called["A"] & ~model.is_real
    barely = missed & (model.U < 0.2 * model.task.A)
    caption(figure, f"""{missed.sum()} of {called["A"].sum()} ideal weights are not real by loss:
        {barely.sum()} of them have not reached a fifth of their value. One by one, removing the
        interference of Definition 2 changes the loss by {predicted:+.2f} in sum; all at once, by
        {true:+.2f}.""")
    return figure, {"true change": true, "predicted change": predicted, "overlap": overlap,
                    "whole loss": model.loss, "ideal loss": losses["Def. 1\nU*, b*"],
                    "mask loss": mask_loss}


# --- The figures: beyond the note -----------------------------------------------------------------


def second_order(seed):
    """Do two matrix products give the effect of every weight? Nearly: they miss only gate flips.

    Status: our observation. Source: Optimal Brain Damage (LeCun, Denker, Solla 1990).
    """
    model = block_model(seed)
    estimate, flips = model.scores["second_order"], itf.gate_flip_rate(model.U, model.b, model.x)
    error, r = np.abs(estimate - model.dL), correlation(estimate, model.dL)
    often = flips > np.quantile(flips, 0.99)
    share = float(error[often].sum() / error.sum())
    figure, ax = new_figure(1, width=8, height=6.5)
    for mask, style, name in ((~often, INTERFERENCE, "other weights"),
                              (often, REAL, "the 1 % that flip gates most often")):
        ax.scatter(estimate[mask], model.dL[mask], s=25, alpha=0.6, linewidths=0, label=name,
                   rasterized=True, **style)
    ends = [min(estimate.min(), model.dL.min()), max(estimate.max(), model.dL.max())]
    ax.plot(ends, ends, "k--", lw=1, label="estimate = exact")
    ax.set(xlabel="second-order estimate", ylabel="exact dL",
           title=f"the effect of {model.U.size} weights: r = {r:.3f}")
    ax.legend(loc="lower right", markerscale=2)
    caption(figure, f"""The estimate holds gates fixed. The marked weights, whose ablation flips a
        gate on {100 * flips[often].min():.0f} % of examples or more, carry {100 * share:.0f} % of
        its total error.""")
    return figure, {"r": r, "error share of flippers": share}


def pruned_loss(seed, sizes=(10, 30, 60, 100, 200, 500, 1000, 2000, 4000, 8000, 12000, 16384)):
    """Does a good ranking make a good small model? Not by itself: pruning shifts what biases undo.

    Each ranking keeps its best weights, and the loss is the true one. Even where summed dL is
    largest, the true loss can be several times the whole model's. Refitting the bias (exactly: see
    `best_bias`) repairs that. Status: our observation.
    """
    model, (mask, _, mask_loss) = block_model(seed), block_mask(seed)
    circuit = model.U, model.b, model.x[:2048], model.y[:2048]
    losses = {(name, refit): itf.pruned_loss(*circuit, model.scores[name], sizes, refit)
              for name in SCORE_STYLES if name != "twera" for refit in (False, True)}
    whole = losses["ideal", False][-1]                      # all weights, on the same examples
    peak = int(np.argmax(itf.loss_gain(model.scores["weight"], model.dL))) + 1
    at_peak = float(itf.pruned_loss(*circuit, model.scores["weight"], [peak])[0])
    figure, axes = new_figure(2, width=6.6, height=5.5, sharey=True)
    for ax, refit, title in zip(axes, (False, True), ("bias as trained", "bias refitted")):
        for name, (label, color, line) in SCORE_STYLES.items():
            if (name, refit) in losses:
                ax.plot(sizes, losses[name, refit], ls=line, color=color, label=label)
        ax.axhline(whole, color="k", lw=1, ls=":", label=f"whole model: {whole:.2f}")
        ax.set(xscale="log", yscale="log", title=title, xlabel="number of weights kept")
    axes[0].annotate("summed dL\nis largest here", (peak, at_peak), (15, 18),
                     arrowprops={"arrowstyle": "->"})
    axes[1].plot(mask.sum(), mask_loss, "*", color="#E69F00", mec="k", ms=18,
                 label=f"learned mask: {mask.sum()} weights, {mask_loss:.2f}")
    axes[0].set_yticks((2, 3, 5, 10, 20), ("2", "3", "5", "10", "20"))
    axes[0].minorticks_off()
    axes[0].set_ylabel("true loss")
    axes[1].legend(loc="upper right", handlelength=3.5)
    in_A, ratio = int(np.sum(mask & (model.task.A > 0))), at_peak / whole
    worst = float(losses["weight", False].max() / whole)
    caption(figure, f"""Ranked by weight, summed dL rises until {peak} weights are kept; their loss
        is {ratio:.1f} times the whole model's, and with more weights up to {worst:.1f} times. The
        mask, trained with its bias, keeps {mask.sum()} weights, {in_A} of them in A, at
        {100 * (1 - mask_loss / model.loss):.0f} % less loss than the whole model.""")
    return figure, {"mask loss": mask_loss, "mask kept": int(mask.sum()), "mask in A": in_A,
                    "whole loss": model.loss, "ratio at the peak": float(ratio),
                    "worst ratio": worst, "losses": losses}


def effectiveness(seed):
    """Do the weights that move the output most help? The very strongest do; below, most harm.

    Effectiveness: mean squared change of the output. Helpfulness: dL, with a 95 % interval. Status:
    our observation. Source of both axes: Turner, Wu, Batson (2026), Characterizing interference
    weights in a tiny language model.
    """
    model = block_model(seed)
    effect = itf.effectiveness(model.U, model.b, model.x)
    half = 1.96 * itf.ablation_standard_errors(model.U, model.b, model.x, model.y)
    helps, harms = model.dL > half, model.dL < -half
    order = itf.ranking(effect)
    top = order[:len(order) // 100]
    share, share_top, harm_top = helps.mean(), helps.flat[top].mean(), harms.flat[top].mean()
    figure, ax = new_figure(1, width=9, height=6)
    for mask, color, marker, name in ((~helps & ~harms, "0.7", ".", "not told apart from 0"),
                                      (harms, BROWN, "v", "harms"), (helps, BLUE, "^", "helps")):
        ax.scatter(effect[mask], model.dL[mask], s=14, c=color, marker=marker, linewidths=0,
                   alpha=0.6, label=f"{name} ({mask.sum()})", rasterized=True)
    ax.errorbar(effect.flat[top], model.dL.flat[top], half.flat[top], fmt="none", ecolor="k",
                elinewidth=0.8, label="95 % interval, top 1 %")
    ax.axvline(effect.flat[top[-1]], color="k", lw=1, linestyle=":")
    ax.set(xscale="log", xlim=(1e-6 * effect.max(), 1.5 * effect.max()),
           xlabel="effectiveness: mean squared change of the output", ylabel="helpfulness: dL",
           title="how far a weight moves the output, and whether it helps")
    ax.set_yscale("symlog", linthresh=THRESHOLD)
    ax.legend(loc="upper left", fontsize=11, markerscale=2)
    caption(figure, f"""Among the 1 % most effective weights (right of the line)
        {100 * share_top:.0f} % help significantly, among all {100 * share:.0f} %; but
        {100 * harm_top:.0f} % of that top harm, among all {100 * harms.mean():.0f} %. The vertical
        axis is linear between +-{THRESHOLD:g}.""")
    return figure, {"helpful in the top 1 %": float(share_top), "helpful overall": float(share),
                    "harmful in the top 1 %": float(harm_top),
                    "dL of the most effective": float(model.dL.flat[order[0]]),
                    "its half interval": float(half.flat[order[0]])}


def graph_precision(model, density, seed, examples=1000):
    """Share of an example's strongest edges that are real, averaged over sparse examples.

    As many edges count as real weights are in play (from a source that is active to a target that
    fires); an example without any is left out.
    """
    rng, shares = np.random.default_rng((seed, 2)), []
    for x in sparse_features(rng, examples, len(model.U), density):
        edges = itf.attribution_graph(model.U, model.b, x)
        drawn = np.ix_(edges.any(axis=1), edges.any(axis=0))
        in_play = model.is_real[drawn]
        if in_play.any():
            precision, _ = itf.precision_recall(edges[drawn], in_play)
            shares.append(precision[in_play.sum() - 1])
    return float(np.mean(shares))


def attribution_graph(seed, sparser=(0.01, 0.03, 0.1, 0.2)):
    """Do one example's graphs side-step interference? Yes if features are sparse, in training too.

    Precision: of as many strongest edges (or weights) as real ones are in play, the share that is
    real by Definition 2. Status: our observation. Source of the graphs: Circuit Tracing (2025).
    """
    densities = (*sparser, 0.3)
    models = [*(block_model(seed, density=density) for density in sparser), block_model(seed)]
    curves = {"graphs": [graph_precision(m, d, seed) for m, d in zip(models, densities)],
              "weights": [float(itf.precision_recall(m.U, m.is_real)[0][m.is_real.sum() - 1])
                          for m in models],
              "fixed": [graph_precision(models[-1], d, seed) for d in densities]}
    model = models[-1]
    edges = itf.attribution_graph(model.U, model.b, model.x[0])
    shown = np.ix_(edges.any(axis=1), edges.any(axis=0))
    figure, axes = new_figure(3, width=5.4)
    heatmap(axes[0], model.U, f"all weights, density {densities[-1]:g}", limit=0.5)
    heatmap(axes[1], edges[shown], "one example's graph", limit=0.5)
    rows, columns = np.nonzero(model.is_real[shown])
    axes[1].plot(columns, rows, "s", ms=11, mfc="none", mec="black", mew=1.5, label="real")
    axes[1].plot(columns, rows, "s", ms=8, mfc="none", mec="white", mew=1.5)
    axes[1].set(xlabel="sources that are active", ylabel="targets that fire", aspect="auto")
    axes[1].legend(loc="lower right", fontsize=10)
    for name, style, label in (("graphs", "-o", "graphs"), ("weights", "--s", "all weights"),
                               ("fixed", ":^", f"graphs, model trained at {densities[-1]:g}")):
        axes[2].plot(densities, curves[name], style, label=label)
    axes[2].set(xscale="log", xlabel="density of the features", ylabel="precision", ylim=(0, 1.05),
                title="strongest edges that are real")
    axes[2].set_xticks(densities, [f"{d:g}" for d in densities])
    axes[2].minorticks_off()
    axes[2].legend(loc="lower left", fontsize=11)
    first, last = ({name: 100 * curve[k] for name, curve in curves.items()} for k in (0, -1))
    caption(figure, f"""At density {densities[0]:g} {first["graphs"]:.0f} % of the strongest edges
        are real, at {densities[-1]:g} {last["graphs"]:.0f} %; of all weights
        {first["weights"]:.0f} % and {last["weights"]:.0f} %. Of the model trained at
        {densities[-1]:g} but shown features at {densities[0]:g}: {first["fixed"]:.0f} %.""")
    return figure, {"sparse graphs": curves["graphs"][0], "dense graphs": curves["graphs"][-1],
                    "dense weights": curves["weights"][-1], "fixed, sparse": curves["fixed"][0],
                    **curves}


def adversarial(seed, examples=128):
    """Can interference be used against the model? A step along it does far more than noise.

    Excess error is measured against the ideal circuit's own answer to the perturbed input, so a
    perfect model scores 0. Random: as many directions as the worst case has to choose from.
    Filtered: the real part by Definition 2. Status: our observation.
    """
    model, rng = block_model(seed), np.random.default_rng((seed, 3))
    A, v, x = model.task.A, model.task.v, model.x[:examples]
    real, _ = itf.decompose_by_loss(model.U, model.dL, THRESHOLD)
    fractions = (0.02, 0.05, 0.1, 0.15, 0.2)
    rows = []
    for size in np.linalg.norm(x, axis=1).mean() * np.array(fractions):
        delta, excess = itf.worst_case_perturbation(model.U, model.b, A, v, x, size)
        _, own = itf.worst_case_perturbation(real, model.b, A, v, x, size)
        noise = rng.normal(size=(2 * len(A), len(A)))
        noise *= size / np.linalg.norm(noise, axis=1, keepdims=True)
        random = np.array([itf.excess_error(model.U, model.b, A, v, x, d) for d in noise])
        same = itf.excess_error(real, model.b, A, v, x, delta)
        rows.append([float(np.mean(part))
                     for part in (excess, own, random.max(axis=0), same, random)])
    figure, ax = new_figure(1, width=8.5, height=6)
    for values, style, label in zip(np.transpose(rows), ("-o", "-.s", ":+", "--^", ":x"), (
            "whole model, worst case", "filtered model, its own worst case",
            "whole model, worst of as many random", "filtered model, the whole model's worst case",
            "whole model, random on average")):
        ax.plot(fractions, values, style, ms=8, label=label)
    ax.axhline(0, color="k", lw=1, label="perfect model: 0")
    ax.set(xlabel="length of the perturbation / mean length of x", ylabel="excess squared error",
           title="error that a perturbation adds")
    ax.legend(loc="upper left")
    worst, own, luck, same, random = rows[fractions.index(0.1)]
    caption(figure, f"""At a tenth of the input's length the worst of {2 * len(A)} directions along
        interference adds {worst:.2f}; random ones add {random:.3f} on average,
        {worst / random:.0f} times less, and {luck:.2f} at their worst. On the filtered model the
        same perturbation adds {same:.2f}; but aimed anew, at the ideal weights that it lacks or
        has too small, {own:.2f}.""")
    return figure, {"worst case": worst, "random": random, "ratio": worst / random,
                    "worst of as many random": luck,
                    "filtered, same": same, "filtered, own": own}


def by_angle(W):
    """U = W.T @ W of features in the plane, W (2, n), in the order of their angles."""
    W = W[:, np.argsort(np.arctan2(W[1], W[0]))]
    return W.T @ W


def off_circulant(G):
    """Distance from G to the nearest circulant, relative to the length of G."""
    return float(np.linalg.norm(G - itf.nearest_circulant(G)) / np.linalg.norm(G))


def equivariance(seed):
    """What is the pentagon, as a map? A convolution over the group of five rotations.

    Sorted by angle, U is circulant: it commutes with moving every feature on by one. Its spectrum
    has power at frequencies +1 and -1 only, as a plane that rotates. Status: our observation.
    Source of the idea: Naturally Occurring Equivariance in Neural Networks (Distill 2020).
    """
    U, control = (by_angle(pentagon_model(seed, 0.05, decay).W) for decay in (1.0, 0.9))
    circulant, rng = itf.nearest_circulant(U), np.random.default_rng((seed, 4))
    chance = np.median([off_circulant(by_angle(rng.normal(size=(2, 5)))) for _ in range(200)])
    distances = {"equal\nimportance": off_circulant(U), "importance\n0.9^i": off_circulant(control),
                 "random\nvectors": float(chance)}
    power = np.abs(np.fft.fft(circulant[0]))       # the eigenvalues of a circulant
    off_peak = float(power[[0, 2, 3]].max() / power.max())
    figure, axes = new_figure(4, width=4.4)
    heatmap(axes[0], U, "U, sorted by angle", digits=2)
    heatmap(axes[1], circulant, "nearest circulant", digits=2)
    axes[2].bar(["0", "+1", "+2", "-2", "-1"], power, color=BLUE)
    axes[2].set(title="spectrum", xlabel="frequency", ylabel="|eigenvalue|")
    bars = axes[3].barh(list(distances), [100 * distance for distance in distances.values()],
                        color=(BLUE, BROWN, "0.6"))
    axes[3].bar_label(bars, fmt="%.1f %%")
    axes[3].set(title="distance to a circulant", xlabel="% of |U|", xlim=(0, 130 * chance))
    equal, unequal, _ = distances.values()
    caption(figure, f"""Gradient descent found a convolution over C5: U is {100 * equal:.2f} % away
        from circulant, and eigenvalues off frequencies +-1 are at most
        {max(100 * off_peak, 0.01):.2g} % of the largest. With unequal importance the symmetry is
        approximate: {100 * unequal:.1f} %.""")
    return figure, {"distance to a circulant": equal, "control": unequal, "random": float(chance),
                    "off-peak": off_peak}


def steering(seed, feature=0, strength=0.5):
    """What else moves when one feature is steered? All that it interferes with: a column of U.

    v is a difference of means, and h + strength v is what the decoder sees. For v = column j of
    W_down the change of z is strength times column j of U, exactly; here v is estimated. Status:
    exact up to that estimate. Source of the recipe: Persona Vectors (arXiv 2507.21509).
    """
    model = simple_model(seed)
    W, h = model.model.W, model.x @ model.model.W.T                    # (m, n), (B, m)
    v = itf.steering_vector(h, model.x[:, feature] > 0)
    z, z_steered = h @ W + model.b, (h + strength * v) @ W + model.b   # (B, n)
    change = relu(z_steered) - relu(z)
    stays_open = (z > 0) & (z_steered > 0)
    seen = stays_open.sum(axis=0) >= 30
    others = seen & (np.arange(len(seen)) != feature)
    column = model.U[:, feature]
    effects = {"where gates stay open": np.sum(change * stays_open, axis=0)
               / np.maximum(stays_open.sum(axis=0), 1), "over all examples": change.mean(axis=0)}
    r = {name: correlation(effect[others], column[others]) for name, effect in effects.items()}
    figure, axes = new_figure(2, width=6.4, height=5)
    for ax, (name, effect) in zip(axes, effects.items()):
        ax.plot(column[others], effect[others], "o", color=BROWN, label="other features")
        ax.plot(column[feature], effect[feature], "^", color=BLUE, ms=11, label="steered feature")
        ax.axhline(0, color="0.8", lw=1, zorder=0)
        ax.set(title=f"{name}: r = {r[name]:.3f}", xlabel=f"column {feature} of U",
               ylabel="mean change of the output")
    axes[0].legend(loc="upper left")
    caption(figure, f"""Where gates stay open, side effects are proportional to column {feature} of
        U: r = {r["where gates stay open"]:.3f} over the other features. But
        {100 * np.mean(~stays_open):.0f} % of gates are shut before or after; over all examples side
        effects are smaller and bent, the negative ones most.""")
    return figure, {"r, open gates": r["where gates stay open"], "r, all": r["over all examples"],
                    "features seen": int(seen.sum())}


def training(seed, frames=36):
    """How do the pentagon and the two kinds of weight come about? By parting: watch the film.

    Returns a list of figures, which becomes an animated GIF whatever --format says. Status:
    reproduced. Source: Toy Models of Superposition, and the note.
    """
    steps = [0, *np.unique(np.geomspace(1, 600, frames - 1).astype(int)).tolist()]
    small = TiedModel.initialise(np.random.default_rng(seed), 5, 2, scale=0.3)
    large = TiedModel.initialise(np.random.default_rng(seed), 100, 20)
    task = identity_task(100, 0.02)
    small_film = train(small, identity_task(5, 0.05), steps[-1], learning_rate=1e-2, seed=seed,
                       snapshots=steps).snapshots
    large_film = train(large, task, steps[-1], seed=seed, snapshots=steps).snapshots
    real, film = task.A > 0, []
    for step in steps:
        U = large_film[step]["W"].T @ large_film[step]["W"]
        figure, (left, right) = new_figure(2, width=4.8)
        arrows(left, small_film[step]["W"], f"5 features, step {step}")
        right.hist([U[~real], U[real]], np.linspace(-1, 1.4, 61), histtype="stepfilled", log=True,
                   alpha=0.8, color=[BROWN, BLUE], label=["interference", "real"])
        right.set(title="100 features in 20 dimensions", xlabel="virtual weight",
                  ylabel="number of weights", ylim=(0.7, 5000))
        right.legend(loc="upper right")
        film.append(figure)
    return film, {"final diagonal": float(U[real].mean()), "frames": len(film)}


FIGURES = {builder.__name__: builder for builder in (
    pentagon, virtual_weights, decomposition, weight_histogram, two_models, block_two_models,
    block_histogram, learned_vs_ideal, precision_recall, loss_gain, weight_sharing,
    converged_geometry, correlated_features, definitions, second_order, pruned_loss, effectiveness,
    attribution_graph, adversarial, equivariance, steering, training)}

# --- The command line -----------------------------------------------------------------------------


def pixels(figure):
    """A figure as drawn, (height, width, 4) bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def encode(figure, suffix):
    """The bytes of a file, always the same for the same figure: no dates, fixed ids."""
    buffer = io.BytesIO()
    if suffix == "gif":
        frames = [Image.fromarray(pixels(f)).convert("RGB").quantize(64) for f in figure]
        frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:], loop=0,
                       duration=[150] * (len(frames) - 1) + [3000])
    else:
        date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
        figure.savefig(buffer, format=suffix, metadata=date)
    return buffer.getvalue()


def write_whole(path, content):
    """Write a file under another name, then rename it: nobody ever sees half of it."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def make(name, seed, folder, suffix):
    """Build one figure and write it; returns it, its path, and its headline number in words."""
    with matplotlib.rc_context(STYLE):
        figure, numbers = FIGURES[name](seed)
        path = folder / f"{name}.{'gif' if isinstance(figure, list) else suffix}"
        write_whole(path, encode(figure, path.suffix[1:]))
    label, value = next(iter(numbers.items()))
    return figure, path, f"{label} {value:.3g}"


def show(figures):
    """Open finished figures (the last frame of a film) in windows, until these are closed."""
    from matplotlib import pyplot
    for name, figure in figures.items():
        figure = figure[-1] if isinstance(figure, list) else figure
        axes = pyplot.figure(name, figure.get_size_inches()).add_axes((0, 0, 1, 1), frameon=False)
        axes.imshow(pixels(figure))
        axes.axis("off")
    pyplot.show()


def parse(arguments):
    """The command line, checked; what cannot be done ends here, with one line and exit code 2."""
    parser = argparse.ArgumentParser(
        description="Make the figures of the lesson, each from models that it trains itself.",
        epilog="All of them take under a minute. An existing file is replaced by a whole new one.")
    option = parser.add_argument
    option("names", nargs="*", metavar="NAME", help="figures to make (default: all; see --list)")
    option("--list", action="store_true", help="say what each figure shows, and stop")
    option("--out", type=pathlib.Path, default="figures", metavar="DIR", help="default: figures")
    option("--format", choices=("png", "svg", "pdf"), default="png", help="default: png")
    option("--seed", type=int, default=0, metavar="N", help="of everything, 0 or more; default: 0")
    option("--show", action="store_true", help="also open the figures in windows, at the end")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure named {', '.join(unknown)}; there are: {', '.join(FIGURES)}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, got {options.seed}")
    if options.show and matplotlib.get_backend().lower() in ("agg", "cairo", "pdf", "ps", "svg"):
        parser.error("--show needs a display, and there is none; leave it out: files need none")
    if not options.list:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=options.out).close()
        except OSError as error:
            parser.error(f"cannot write to {options.out}: {error.strerror}")
    return options


def main(arguments=None):
    """Make what the command line asks for; returns the exit code."""
    options = parse(arguments)
    if options.list:
        for name, builder in FIGURES.items():
            print(f"{name:20} {builder.__doc__.splitlines()[0]}")
        return 0
    names, finished, start = options.names or list(FIGURES), {}, time.perf_counter()
    for k, name in enumerate(names, 1):
        began = time.perf_counter()
        try:
            finished[name], path, headline = make(name, options.seed, options.out, options.format)
            outcome = f"{headline} -> {path}"
        except Exception as error:
            outcome = f"FAILED: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - began
        print(f"[{k:2}/{len(names)}] {name:20} {seconds:5.1f} s  {outcome}", flush=True)
    failed = [name for name in names if name not in finished]
    print(f"{len(names) - len(failed)} figures in {time.perf_counter() - start:.1f} s")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    if options.show:
        show(finished)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped; the figures made so far are whole", file=sys.stderr)
        sys.exit(130)
