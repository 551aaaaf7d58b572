"""Every check of the project, in the order of the files: `python -m pytest`, under a minute.

    python -m pytest -k "not claim"     the fast ones: oracles, closed forms, worked examples, bad input
    python -m pytest -k claim           train real configurations and check what the figures claim
    python -m pytest -k tied_gradient   one topic; messages say which mistake is the likely one

An oracle here is always a second, slower or simpler way to the same number.
"""
import itertools
import pathlib
import re
from functools import lru_cache

import plots  # first: it pins BLAS threads before NumPy loads

import numpy as np
import pytest

import interference as itf
import toymodel as tm
from toymodel import LiftedModel, MaskedModel, TiedModel, UntiedModel

N, M, B = 6, 3, 40


def random_case(seed=0):
    """Random weights U (N, N), bias b, features x, answers y and importance, all float64."""
    rng = np.random.default_rng(seed)
    x = tm.sparse_features(rng, B, N, 0.6, np.float64)
    y = tm.relu(x @ rng.normal(size=(N, N)))
    return rng.normal(size=(N, N)), 0.3 * rng.normal(size=N), x, y, rng.uniform(0.5, 2, N)


def random_models(seed=0):
    """One model of each kind, float64, with nonzero biases."""
    U, b, _, _, _ = random_case(seed)
    return {"tied": TiedModel(U[:M], b), "untied": UntiedModel(U[:M], U[:, :M], b),
            "lifted": LiftedModel(U, b, l1=0.1), "masked": MaskedModel(U, b, logits=U.T,
                                                                       penalty=0.1)}


KINDS = tuple(random_models())
close = np.testing.assert_allclose

# --- toymodel.py: forward and loss ----------------------------------------------------------------


def test_relu_is_right_for_complex_numbers_and_loud_about_nan():
    close(tm.relu(np.array([-1.0, 0.0, 2.0])), [0, 0, 2])
    close(tm.relu(np.array([-1 + 2j, 2 + 3j])), [0, 2 + 3j], err_msg="relu must keep z where "
          "z.real > 0")
    assert np.isnan(tm.relu(np.array([np.nan]))[0]), "relu turned a NaN into a number: divergence would go unseen"


@pytest.mark.parametrize("kind", KINDS)
def test_forward_matches_a_loop_over_examples(kind):
    model, x = random_models()[kind], random_case()[2]
    U = model.virtual_weights()
    for example, y_hat in zip(x, model.forward(x)):
        z = [sum(U[i, j] * example[j] for j in range(N)) + model.b[i] for i in range(N)]
        close(y_hat, np.maximum(z, 0), atol=1e-12,
              err_msg="wrong transpose, or the bias is missing")


def test_virtual_weights_are_products_of_what_is_trained():
    U, b, *_ = random_case()
    close(TiedModel(U[:M], b).virtual_weights(), U[:M].T @ U[:M])
    close(UntiedModel(U[:M], U[:, :M], b).virtual_weights(), U[:, :M] @ U[:M], err_msg="U is W_up "
          "@ W_down")
    close(MaskedModel(U, b, np.zeros((N, N))).virtual_weights(), U / 2, err_msg="sigmoid(0) is 1/2")
    close(MaskedModel(U, b, np.full((N, N), 50.0)).virtual_weights(), U, err_msg="a large logit "
          "keeps a weight")


def test_loss_is_a_mean_over_examples_and_a_sum_over_targets():
    model = LiftedModel(np.eye(2), [0, 0])
    x, y = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[0.0, 0.0], [3.0, 1.0]])
    assert model.loss(x, y) == pytest.approx((1 + 4 + 0
                                              + 1) / 2), "mean over the batch, sum over targets"
    assert model.loss(x, y, [10, 1]) == pytest.approx((10 + 4 + 0
                                                       + 1) / 2), "importance weighs targets"


def test_regularisers_are_added_to_the_loss():
    U, b, x, y, _ = random_case()
    plain = LiftedModel(U, b).loss(x, y)
    assert LiftedModel(U, b, l1=0.1).loss(x, y) == pytest.approx(plain + 0.1 * np.abs(U).sum())
    masked = MaskedModel(U, b, U.T), MaskedModel(U, b, U.T, penalty=0.1)
    s = 1 / (1 + np.exp(-U.T))
    assert masked[1].loss(x, y) == pytest.approx(masked[0].loss(x, y) + 0.1 * s.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_to_the_loss_agree(kind):
    model, (_, _, x, y, importance) = random_models()[kind], random_case()
    for weights in (None, importance):
        assert model.loss_and_gradients(x, y, weights)[0] == pytest.approx(model.loss(x, y, weights)), \
            "loss_and_gradients computes another loss than loss: is the regulariser or a factor missing?"


def test_closed_form_of_an_ignored_feature():
    """Output a constant c: L = E[(c - x)^2] is smallest, s/3 - s^2/4, at c = E[x] = s/2."""
    s, k = 0.5, 2000
    x = np.concatenate([np.zeros(k), (np.arange(k) + 0.5) / k])[:, None]   # density exactly 1/2
    losses = [LiftedModel(np.zeros((1, 1)), [c]).loss(x, x) for c in (s / 2, s / 2 + 0.01,
                                                                      s / 2 - 0.01)]
    assert losses[0] == pytest.approx(s / 3 - s**2 / 4, rel=1e-5)
    assert losses[0] < min(losses[1:])


def test_closed_form_of_an_antipodal_pair():
    """W = [1, -1], b = 0: only both active at once costs, 2 E[min(x_1, x_2)^2] = 1/3, so L = s^2/3."""
    s, k = 0.5, 200
    grid = (np.arange(k) + 0.5) / k
    off, on = np.zeros(k), grid
    x = np.array([pair for a, c in itertools.product((off, on), repeat=2)
                  for pair in itertools.product(a, c)])
    assert TiedModel([[1, -1]], [0, 0]).loss(x, x) == pytest.approx(s**2 / 3, rel=1e-3)


def test_rotating_the_residual_space_changes_nothing():
    U, b, x, y, _ = random_case()
    Q = np.linalg.qr(np.random.default_rng(5).normal(size=(M, M)))[0]
    model, turned = UntiedModel(U[:M], U[:, :M], b), UntiedModel(Q @ U[:M], U[:, :M] @ Q.T, b)
    close(turned.virtual_weights(), model.virtual_weights(), atol=1e-12)
    assert turned.loss(x, y) == pytest.approx(model.loss(x, y))


def test_permuting_features_permutes_the_gradient():
    U, b, x, y, _ = random_case()
    order = np.random.default_rng(3).permutation(N)
    straight = TiedModel(U[:M], b).loss_and_gradients(x, y)
    permuted = TiedModel(U[:M, order], b[order]).loss_and_gradients(x[:, order], y[:, order])
    assert permuted[0] == pytest.approx(straight[0])
    close(permuted[1]["W"], straight[1]["W"][:, order], atol=1e-12)


def test_virtual_weights_have_the_rank_of_the_bottleneck():
    for cls in (TiedModel, UntiedModel):
        model = cls.initialise(np.random.default_rng(0), 20, 4, dtype=np.float64)
        assert np.linalg.matrix_rank(model.virtual_weights()) == 4


# --- toymodel.py: gradients -----------------------------------------------------------------------

ADVICE = {
    "tied": "tied: dW needs both terms, encoder dh.T @ x and decoder h.T @ g",
    "untied": "untied: dW_up = g.T @ h and dW_down = (g @ W_up).T @ x",
    "lifted": "lifted: dU = g.T @ x plus l1 sign(U)",
    "masked": "masked: dlogits = (dU * U + penalty) * s * (1 - s)",
}


def gradient_message(kind):
    return f"{ADVICE[kind]}; and g = 2 importance (y_hat - y) 1[z > 0] / B with its factor 2, its gate and its B"


def assert_gradient(kind):
    """The gradient of one kind of model, against complex-step derivatives."""
    for seed in range(3):
        model, (_, _, x, y, importance) = random_models(seed)[kind], random_case(seed)
        for name, error in tm.check_gradients(model, x, y, importance).items():
            assert error < 1e-10, f"d{name} is off by {error:.0e}. {gradient_message(kind)}"


def test_tied_gradient():
    assert_gradient("tied")


def test_untied_gradient():
    assert_gradient("untied")


def test_lifted_gradient():
    assert_gradient("lifted")


def test_masked_gradient():
    assert_gradient("masked")


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_matches_central_differences(kind):
    model, (_, _, x, y, importance) = random_models()[kind], random_case()
    _, gradients = model.loss_and_gradients(x, y, importance)
    assert gradients.keys() == model.parameters.keys()
    for name, parameter in model.parameters.items():
        for index in np.ndindex(parameter.shape):
            value, ends = parameter[index], []
            for parameter[index] in (value + 1e-6, value - 1e-6):
                ends.append(model.loss(x, y, importance))
            parameter[index] = value
            assert gradients[name][index] == pytest.approx((ends[0] - ends[1]) / 2e-6,
                                                           abs=1e-6), gradient_message(kind)


def test_cheap_order_of_products_equals_the_naive_one():
    """The derivation in toymodel.py word for word: form dU (n, n) first, then one chain-rule line."""
    U, b, x, y, importance = random_case()
    lifted = lambda model: LiftedModel(model.virtual_weights(),
                                       b).loss_and_gradients(x, y, importance)[1]["U"]
    tied, untied, masked = TiedModel(U[:M], b), UntiedModel(U[:M], U[:, :M],
                                                            b), MaskedModel(U, b, U.T)
    dU = lifted(tied)
    close(tied.loss_and_gradients(x, y, importance)[1]["W"], tied.W @ (dU + dU.T), atol=1e-12,
          err_msg=ADVICE["tied"])
    dU, gradients = lifted(untied), untied.loss_and_gradients(x, y, importance)[1]
    close(gradients["W_up"], dU @ untied.W_down.T, atol=1e-12, err_msg=ADVICE["untied"])
    close(gradients["W_down"], untied.W_up.T @ dU, atol=1e-12, err_msg=ADVICE["untied"])
    s = masked.mask()
    close(masked.loss_and_gradients(x, y, importance)[1]["logits"],
          lifted(masked) * U * s * (1 - s), atol=1e-12)


def test_check_gradients_notices_a_wrong_gradient():
    class Wrong(TiedModel):
        def gradients(self, g, x, h):
            return {"W": h.T @ g}          # the encoder term is forgotten

    U, b, x, y, _ = random_case()
    errors = tm.check_gradients(Wrong(U[:M], b), x, y)
    assert errors["W"] > 0.01 and errors["b"] < 1e-10


def test_check_gradients_leaves_a_float32_model_as_it_was():
    model = TiedModel.initialise(np.random.default_rng(0), N, M)
    before = model.W.copy()
    assert max(tm.check_gradients(model, *random_case()[2:4]).values()) < 1e-10
    assert model.W.dtype == np.float32 and np.array_equal(model.W, before)


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_a_model_keeps_its_precision_whatever_it_is_fed(dtype):
    U, b, x, y, importance = random_case()
    U = U.astype(dtype)
    for model in (TiedModel(U[:M], b), UntiedModel(U[:M], U[:, :M], b),
                  MaskedModel(U, b.astype(dtype), U, 0.1),
                  LiftedModel(U, b.astype(dtype), 0.1)):
        loss, gradients = model.loss_and_gradients(x, y, importance)
        assert isinstance(loss, float) and isinstance(model.loss(x, y), float)
        for array in (model.forward(x), *gradients.values(), *model.parameters.values(),
                      model.virtual_weights()):
            assert array.dtype == dtype, "silently changed precision"


def test_models_copy_the_arrays_they_are_given():
    U, b, x, y, _ = random_case()
    for model in (TiedModel(U, b), UntiedModel(U, U, b), LiftedModel(U, b), MaskedModel(U, b, U)):
        for parameter in model.parameters.values():
            parameter += 1
    np.testing.assert_array_equal(U, random_case()[0], err_msg="training this model would change "
                                  "the caller's array")
    assert LiftedModel(np.eye(2, dtype=int),
                       [0, 0]).U.dtype == np.float32, "integers become float32"


def test_initialise_has_the_stated_scale():
    rng = np.random.default_rng
    for cls, scale, expected in ((TiedModel, None, np.sqrt(2 / 120)), (UntiedModel, None,
                                                                       1 / np.sqrt(20)),
                                 (TiedModel, 0.5, 0.5), (UntiedModel, 0.5, 0.5)):
        model = cls.initialise(rng(0), 100, 20, scale)
        assert not model.b.any() and model.b.shape == (100,)
        for name in model.names[:-1]:
            assert model.parameters[name].std() == pytest.approx(expected,
                                                                 rel=0.06), f"{cls.__name__} {name}"
    close(TiedModel.initialise(rng(0), 9, 4).W, TiedModel.initialise(rng(0), 9, 4,
                                                                     dtype=np.float64).W, rtol=1e-6)
    model = UntiedModel.initialise(rng(0), 9, 4)
    assert model.W_down.shape == (4, 9) and model.W_up.shape == (9, 4)
    assert not np.allclose(model.W_down, model.W_up.T), "two matrices, drawn separately"


# --- toymodel.py: data ----------------------------------------------------------------------------


@pytest.mark.parametrize("density", (0.03, 0.099, 0.1, 0.4,
                                     1.0))   # both sampling rules, and their border
def test_sparse_features_have_the_exact_distribution(density):
    x = tm.sparse_features(np.random.default_rng(0), 20000, 10, density)
    active = x > 0
    count = x.size * density
    assert abs(active.sum() - count) < 5 * np.sqrt(count) + 1, "P(nonzero) is not the density"
    values = np.sort(x[active])
    uniform = (np.arange(len(values)) + 0.5) / len(values)
    assert np.abs(values
                  - uniform).max() < 2 / np.sqrt(len(values)), "values are not uniform on [0, 1]"
    spread = np.sqrt(density * (1 - density) / 20000)
    assert np.abs(active.mean(axis=0)
                  - density).max() < 5 * spread + 1e-9, "some features are favoured"
    together = (active.T.astype(float) @ active / 20000)[np.triu_indices(10, 1)]
    assert np.abs(together
                  - density**2).max() < 6 * density / np.sqrt(20000), "features are not independent"


def test_number_of_active_features_varies_as_a_binomial_does():
    for density in (0.05, 0.3):
        counts = [np.count_nonzero(tm.sparse_features(np.random.default_rng(s), 10, 50, density))
                  for s in range(2000)]
        assert np.var(counts) == pytest.approx(500 * density * (1 - density),
                                               rel=0.15), "the count must not be fixed"


def test_correlated_features_pick_one_set_and_any_pair_in_it():
    x = tm.correlated_features(np.random.default_rng(0), 24000, 4, n_active=2)
    active = x > 0
    assert x.shape == (24000, 8) and x.dtype == np.float32
    assert np.all(active.sum(axis=1) == 2), "exactly n_active features, all distinct"
    assert not np.any(active[:, :4].any(axis=1) & active[:, 4:].any(axis=1)), "never both sets"
    pairs = [np.sum(active[:, start + i] & active[:, start + j]) for start in (0, 4) for i,
             j in itertools.combinations(range(4), 2)]
    close(pairs, 2000, atol=5 * np.sqrt(2000), err_msg="some pairs are more likely than others")
    assert x[active].mean() == pytest.approx(0.5, abs=0.01) and x.max() <= 1
    assert np.all((tm.correlated_features(np.random.default_rng(0), 50, 3,
                                          n_active=3) > 0).sum(axis=1) == 3)


def test_same_seed_same_batch_and_float64_on_request():
    for sample in (lambda rng, dtype: tm.sparse_features(rng, 30, 20, 0.05, dtype), lambda rng,
                   dtype: tm.sparse_features(rng, 30, 20, 0.5, dtype),
                   lambda rng, dtype: tm.correlated_features(rng, 30, 20, 2, dtype)):
        for dtype in (np.float32, np.float64):
            first, again = sample(np.random.default_rng(7), dtype), sample(np.random.default_rng(7),
                                                                           dtype)
            assert first.dtype == dtype and np.array_equal(first, again)
            assert not np.array_equal(first, sample(np.random.default_rng(8), dtype))


def test_tasks_give_the_ideal_circuits_answer():
    for task in (tm.identity_task(12, 0.3), tm.block_task(32, 4), tm.correlated_task(6, 2)):
        x, y = task.batch(np.random.default_rng(0), 200)
        assert x.shape == y.shape == (200, task.n_features) and y.dtype == np.float32
        close(y, np.maximum(x @ task.A.T + task.v, 0), atol=1e-6, err_msg="y = relu(x @ A.T + v)")

    assert np.array_equal(tm.correlated_task(6, 2).A, np.eye(12))
    assert np.all((tm.correlated_task(6, 3).batch(np.random.default_rng(0),
                                                  20)[0] > 0).sum(axis=1) == 3)
    assert tm.identity_task(3, 0.5, importance=[1, 2, 3]).importance.tolist() == [1, 2, 3]
    assert np.mean(tm.identity_task(50, 0.04).batch(np.random.default_rng(0),
                                                    2000)[0] > 0) == pytest.approx(0.04, rel=0.1)


def test_block_task_has_blocks_and_nothing_between_them():
    task = tm.block_task(128, 8, weight_density=0.3, density=0.2, bias=-0.2, seed=3)
    block = np.arange(128) // 16
    inside = block[:, None] == block
    assert not task.A[~inside].any(), "a weight between blocks"
    kept = task.A[inside]
    assert np.mean(kept > 0) == pytest.approx(0.3, abs=0.04) and kept.max() <= 1 and kept[kept > 0].mean() == pytest.approx(0.5, abs=0.05)
    assert np.all(task.v == np.float32(-0.2)) and task.A.dtype == np.float32
    assert np.mean(task.batch(np.random.default_rng(0),
                              2000)[0] > 0) == pytest.approx(0.2, rel=0.05)
    assert np.array_equal(task.A, tm.block_task(128, 8, 0.3,
                                                seed=3).A) and not np.array_equal(task.A,
                                                                                  tm.block_task(128, 8, 0.3, seed=4).A)


# --- toymodel.py: training ------------------------------------------------------------------------


def test_adam_by_hand():
    """Two steps from p = 1 with gradients 2, then 4: means 0.2, 0.58; squares 0.004, 0.019996."""
    p = np.array([1.0])
    adam = tm.Adam({"p": p}, learning_rate=0.1)
    adam.step({"p": np.array([2.0])})
    close(p, 0.9, rtol=1e-7, err_msg="the first step is learning_rate against the gradient's sign: "
          "bias correction?")
    adam.step({"p": np.array([4.0])})
    close(p, 0.9 - 0.1 * (0.58 / 0.19) / (np.sqrt(0.019996 / 0.001999) + 1e-8), rtol=1e-7)
    adam.step({"p": np.array([0.0])}, learning_rate=0.0)
    close(p, 0.9 - 0.1 * (0.58 / 0.19) / np.sqrt(0.019996 / 0.001999), rtol=1e-7,
          err_msg="learning_rate=0 must override")
    tiny = np.array([1.0])
    tm.Adam({"p": tiny}, learning_rate=0.1, epsilon=1.0).step({"p": np.array([1.0])})
    close(tiny, 1 - 0.1 / 2, err_msg="epsilon is added to the square root")


def test_training_lowers_the_loss_and_repeats_exactly():
    def run(seed=0):
        model = TiedModel.initialise(np.random.default_rng(seed), 8, 4)
        return model, tm.train(model, tm.identity_task(8, 0.2), 200, 128, 1e-2, seed)
    (model, history), (again, repeat), (_, other) = run(), run(), run(1)
    assert history.losses.shape == (200,) and history.losses[-20:].mean() < 0.5 * history.losses[:20].mean()
    assert np.array_equal(model.W, again.W) and np.array_equal(history.losses, repeat.losses)
    assert not np.array_equal(history.losses, other.losses)


def test_train_follows_loss_gradient_adam_by_hand():
    task, seed = tm.identity_task(6, 0.3, importance=[5, 1, 1, 1, 1, 1]), 3
    by_hand, trained = (TiedModel.initialise(np.random.default_rng(1), 6, 3) for _ in range(2))
    rng, adam = np.random.default_rng(seed).spawn(1)[0], tm.Adam(by_hand.parameters)
    losses = []
    for step in range(10):
        x, y = task.batch(rng, 32)
        loss, gradients = by_hand.loss_and_gradients(x, y, task.importance)
        losses.append(loss)
        adam.step(gradients, 0.01 * 0.5 * (1 + np.cos(np.pi * step / 10)))
    history = tm.train(trained, task, 10, 32, 0.01, seed, schedule="cosine")
    close(history.losses, losses, rtol=1e-6, err_msg="is the task's importance used? the loss "
          "taken before the update?")
    close(trained.W, by_hand.W, rtol=1e-5, err_msg="cosine: learning_rate * (1 + cos(pi step / "
          "steps)) / 2")


def test_a_models_weights_and_its_data_share_no_random_numbers():
    seen = []
    task = tm.Task(np.eye(4), np.zeros(4), lambda rng, size: seen.append(rng.random((size, 4)))
                   or seen[-1])
    tm.train(TiedModel.initialise(np.random.default_rng(5), 4, 2), task, 1, 3, seed=5)
    assert not np.allclose(seen[-1],
                           np.random.default_rng(5).random((3, 4))), "seed 5 gave weights and data the same stream"


def test_snapshots_are_copies_at_the_steps_asked_for():
    model, calls = TiedModel.initialise(np.random.default_rng(0), 5, 2), []
    start = model.W.copy()
    history = tm.train(model, tm.identity_task(5, 0.5), 6, 16, snapshots=(0, 3, 6),
                       progress=lambda *call: calls.append(call))
    assert sorted(history.snapshots) == [0, 3, 6]
    np.testing.assert_array_equal(history.snapshots[0]["W"], start)
    np.testing.assert_array_equal(history.snapshots[6]["W"], model.W)
    assert not np.array_equal(history.snapshots[3]["W"], model.W), "snapshots must be copies"
    assert calls == [(k, 6) for k in range(1, 7)]
    three = TiedModel.initialise(np.random.default_rng(0), 5, 2)
    tm.train(three, tm.identity_task(5, 0.5), 3, 16)
    np.testing.assert_array_equal(history.snapshots[3]["W"], three.W, err_msg="snapshot k is taken "
                                  "after k updates")


def test_a_diverging_run_stops_with_step_and_advice():
    model = TiedModel.initialise(np.random.default_rng(0), 5, 2)
    with pytest.raises(FloatingPointError, match=r"step 1 with learning rate 1e\+30.*try"):
        tm.train(model, tm.identity_task(5, 0.5), 10, 16, learning_rate=1e30)


def test_demo_prints_a_pentagon(capsys):
    tm.demo()
    printed = capsys.readouterr().out
    angles = [float(a) for a in re.search(r"\[(.*)\]", printed)[1].split()]
    close(angles, 72, atol=3)
    assert sum(angles) == pytest.approx(360, abs=0.5) and "simple" in printed and "block" in printed


# --- interference.py: what each weight does -------------------------------------------------------


def brute_force(U, b, x, y, importance=1.0, part=None):
    """Zero one weight, rerun the model: the squared errors (n, n, B) and outputs (n, n, B, n)."""
    outputs = np.empty((*U.shape, len(x), len(b)))
    for index in np.ndindex(U.shape):
        ablated = U.copy()
        ablated[index] -= (U if part is None else part)[index]
        outputs[index] = np.maximum(x @ ablated.T + b, 0)
    return np.sum(importance * (outputs - y)**2, axis=-1), outputs


CASES = {"sparse": lambda: random_case(1), "any sign": lambda: (*random_case(2)[:2],
                                                                np.random.default_rng(2).normal(size=(B, N)), *random_case(2)[3:]),
         "often shut": lambda: (random_case(3)[0], random_case(3)[1] - 1.0, *random_case(3)[2:])}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def test_ablation_effects_match_brute_force(case):
    U, b, x, y, importance = case
    errors, _ = brute_force(U, b, x, y, importance)
    whole = LiftedModel(U, b).loss(x, y, importance)
    message = "zero one weight and rerun: are gates that open counted, importance on targets (rows), the mean over B?"
    close(itf.ablation_effects(U, b, x, y, importance), errors.mean(axis=-1) - whole, atol=1e-10,
          err_msg=message)
    part = 0.5 * U.T
    errors, _ = brute_force(U, b, x, y, importance, part)
    close(itf.ablation_effects(U, b, x, y, importance, part), errors.mean(axis=-1) - whole,
          atol=1e-10)


def test_ablation_in_chunks_equals_ablation_at_once(monkeypatch):
    U, b, x, y, _ = random_case()
    whole = itf.ablation_effects(U, b, x, y)
    monkeypatch.setattr(itf.ablation_changes, "__defaults__", (None, 7))
    close(itf.ablation_effects(U, b, x, y), whole, atol=1e-12, err_msg="chunks must add up")
    seen = [rows.max() for _, rows, _, _ in itf.ablation_changes(U, b, x) if len(rows)]
    assert max(seen) == B - 1 and len(seen) > N, "rows are positions in the whole batch"


def test_ablation_skips_examples_that_stay_shut():
    U, b, x, y, _ = random_case()
    assert all(len(rows) == 0 for _, rows, _, _ in itf.ablation_changes(U, b - 100,
                                                                        x)), "every gate stays shut here"
    assert not itf.ablation_effects(U, b - 100, x, y).any()


def test_standard_errors_match_brute_force(case):
    U, b, x, y, importance = case
    errors, _ = brute_force(U, b, x, y, importance)
    differences = errors - np.sum(importance * (np.maximum(x @ U.T + b, 0) - y)**2, axis=-1)
    expected = differences.std(axis=-1, ddof=1) / np.sqrt(len(x))
    close(itf.ablation_standard_errors(U, b, x, y, importance), expected, atol=1e-10,
          err_msg="of paired differences, over sqrt(B)")


def test_effectiveness_and_flips_match_brute_force(case):
    U, b, x, y, _ = case
    _, outputs = brute_force(U, b, x, y)
    before = np.maximum(x @ U.T + b, 0)
    close(itf.effectiveness(U, b, x), np.sum((outputs - before)**2, axis=-1).mean(axis=-1),
          atol=1e-12)
    close(itf.gate_flip_rate(U, b, x), np.any((outputs > 0) != (before > 0), axis=-1).mean(axis=-1),
          atol=1e-12)


def test_second_order_is_exact_while_no_gate_flips():
    U, b, x, y, importance = random_case()
    for shift in (50, -50):                      # all gates open, all gates shut
        exact = itf.ablation_effects(U, b + shift, x, y, importance)
        close(itf.second_order_effects(U, b + shift, x, y, importance), exact, atol=1e-9,
              err_msg="-2 U E[g e x] + U^2 E[g x^2]")
    exact, estimate, flips = itf.ablation_effects(U, b, x, y), itf.second_order_effects(U, b, x,
                                                                                        y), itf.gate_flip_rate(U, b, x)
    close(estimate[flips == 0], exact[flips == 0], atol=1e-12)
    assert np.any(flips == 0) and not np.allclose(estimate, exact)


def test_second_order_is_gradient_times_weight_plus_curvature():
    U, b, x, y, importance = random_case()
    _, gradients = LiftedModel(U, b).loss_and_gradients(x, y, importance)
    curvature = importance[:, None] * ((x @ U.T + b > 0).T.astype(float) @ x**2) / B
    close(itf.second_order_effects(U, b, x, y, importance), -U * gradients["U"] + U**2 * curvature,
          atol=1e-12)


# --- interference.py: definitions and heuristics --------------------------------------------------


def test_decompositions_sum_to_the_weights():
    U, *_ = random_case()
    dL = np.random.default_rng(0).normal(size=U.shape)
    for real, interference in (itf.decompose_by_ideal(U, np.eye(N)), itf.decompose_by_loss(U, dL,
                                                                                           0.5)):
        close(real + interference, U)
    assert np.array_equal(real != 0, dL > 0.5) and not np.any((real != 0) & (interference != 0))
    assert np.array_equal(itf.decompose_by_ideal(U, np.eye(N))[0], np.eye(N))
    assert np.count_nonzero(itf.decompose_by_loss(np.ones((1, 3)),
                                                  [[0.9e-4, 1e-4,
                                                    1.1e-4]])[0]) == 1, "the default threshold is 1e-4"


def test_ideal_weights_find_the_circuit_that_the_bottleneck_hid():
    task = tm.identity_task(6, 0.3)
    model = TiedModel.initialise(np.random.default_rng(0), 6, 3)
    tm.train(model, task, 200, 256, 1e-2)
    U = model.virtual_weights()
    U_star, b_star = itf.ideal_weights(U, model.b, task, steps=600, batch_size=256,
                                       learning_rate=1e-2)
    close(U_star, np.eye(6), atol=0.02)
    close(b_star, 0, atol=0.02)
    close(U, model.virtual_weights(), err_msg="the model's own weights must not change")
    shrunk, _ = itf.ideal_weights(U, model.b, task, l1=10.0, steps=600, batch_size=64,
                                  learning_rate=1e-2)
    assert np.abs(shrunk).max() < 0.05, "a large l1 pulls every weight to 0"


def test_learned_mask_keeps_what_is_needed_and_drops_the_rest():
    task, b = tm.identity_task(5, 0.3), np.zeros(5)
    U = np.eye(5) - 0.3 * (1 - np.eye(5))
    mask, b_masked = itf.learned_mask(U, b, task, penalty=1e-3, steps=400, batch_size=128)
    assert np.all(mask[np.eye(5, dtype=bool)] > 0.9) and np.all(mask[~np.eye(5, dtype=bool)] < 0.1)
    assert np.abs(b_masked).max() < 0.05 and not b.any()
    assert itf.learned_mask(U, b, task, penalty=10.0, steps=400,
                            batch_size=64)[0].max() < 0.1, "a large penalty drops everything"


def test_heuristics_match_loops_over_examples():
    U, b, x, y, _ = random_case()
    y_hat = np.maximum(x @ U.T + b, 0)
    scores = itf.all_scores(U, b, x, y)
    for i, j in np.ndindex(U.shape):
        fires, both = y_hat[:, i] > 0, (y_hat[:, i] > 0) & (x[:, j] > 0)
        assert scores["weight"][i, j] == U[i, j]
        assert scores["era"][i, j] == pytest.approx(np.mean(fires
                                                            * x[:, j]) * U[i, j]), "ERA: E[1(y_hat_i > 0) x_j] U_ij"
        assert scores["twera"][i, j] == pytest.approx(np.mean(y_hat[:, i] * x[:, j]) / y_hat[:, i].mean() * U[i, j]), "TWERA"
        assert scores["frequency"][i, j] == pytest.approx(both.mean()), "P(x_j > 0 and y_hat_i > 0)"
    close(scores["second_order"], itf.second_order_effects(U, b, x, y))


def test_twera_guard_lifts_small_denominators_only():
    U, b, x, _, _ = random_case()
    b = b - np.array([0, 0, 0, 0, 0, 100])            # targets 0 and 2 fire rarely, target 5 never
    rate = np.maximum(x @ U.T + b, 0).mean(axis=0)
    published, guarded = itf.target_weighted_attribution(U, b, x), itf.target_weighted_attribution(U, b, x, min_rate=0.2)
    floor = 0.2 * rate.max()
    assert np.array_equal(rate < floor, [True, False, True, False, False, True]) and rate[5] == 0
    close(guarded, published * (rate / np.maximum(rate, floor))[:, None], atol=1e-12,
          err_msg="min_rate * max_i E[y_hat_i] is the floor")
    assert not published[5].any() and np.isfinite(published).all(), "a target that never fires scores 0"
    assert np.array_equal(itf.all_scores(U, b, x, x)["guarded_twera"],
                          itf.target_weighted_attribution(U, b, x, 0.01))


# --- interference.py: how good is a ranking -------------------------------------------------------


def test_precision_and_recall_by_hand_with_a_tie():
    """Scores 3, 1, 2, 1: the two ones are a tie, and stay in reading order."""
    precision, recall = itf.precision_recall(np.array([[3, 1], [2, 1]]), np.array([[1, 1], [0, 0]]))
    close(precision, [1, 1 / 2, 2 / 3, 1 / 2])
    close(recall, [1 / 2, 1 / 2, 1, 1])
    assert itf.average_precision(precision, recall) == pytest.approx(5 / 6)
    close(itf.loss_gain(np.array([[3, 1], [2, 1]]), np.array([[5, 1], [2, -4]])), [5, 7, 8, 4])


def test_precision_and_recall_match_a_count_over_every_prefix():
    rng = np.random.default_rng(0)
    scores, is_real = rng.integers(0, 9, 60), rng.random(60) < 0.3
    order = sorted(range(60), key=lambda k: (-scores[k], k))
    precision, recall = itf.precision_recall(scores, is_real)
    area, before = 0, 0
    for k in range(1, 61):
        hits = sum(is_real[i] for i in order[:k])
        assert precision[k - 1] == pytest.approx(hits / k) and recall[k - 1] == pytest.approx(hits / is_real.sum())
        area, before = area + hits / k * (hits - before) / is_real.sum(), hits
    assert itf.average_precision(precision, recall) == pytest.approx(area)
    assert itf.average_precision(*itf.precision_recall(is_real.astype(float), is_real)) == 1


def test_best_bias_beats_every_bias_on_a_fine_grid():
    rng = np.random.default_rng(0)
    s, y = rng.normal(size=(30, 4)), tm.relu(rng.normal(size=(30, 4)))
    y[:, 3] = 0                                                   # best answer: shut every gate
    s[:, 2] -= 50                                                 # every gate shut: must be reopened
    loss = lambda b: np.mean((tm.relu(s + b) - y)**2, axis=0)
    b = itf.best_bias(s, y)
    grid = np.linspace(-5, 55, 6001)
    best = np.min([loss(np.full(4, g)) for g in grid], axis=0)
    assert np.all(loss(b) <= best
                  + 1e-12), "not the global optimum: is each parabola's bottom clipped into its interval?"
    close(loss(b), best, atol=1e-3)


def test_pruned_loss_is_the_loss_of_the_pruned_model():
    U, b, x, y, _ = random_case()
    scores = np.random.default_rng(1).normal(size=U.shape)
    sizes = (0, 5, 20, U.size)
    losses, refitted = itf.pruned_loss(U, b, x, y, scores, sizes), itf.pruned_loss(U, b, x, y,
                                                                                   scores, sizes,
                                                                                   refit_bias=True)
    for size, loss, refit in zip(sizes, losses, refitted):
        kept = scores >= np.sort(scores, axis=None)[-size] if size else np.zeros(U.shape, bool)
        pruned = np.where(kept, U, 0)
        assert loss == pytest.approx(LiftedModel(pruned,
                                                 b).loss(x, y)), "keep the largest scores, rerun the model"
        assert refit == pytest.approx(LiftedModel(pruned, itf.best_bias(x @ pruned.T,
                                                                        y)).loss(x, y)) and refit <= loss


# --- interference.py: structure and use -----------------------------------------------------------


def test_set_means_by_hand():
    """Two sets of two: within means leave the diagonal (9) out, between means take all four."""
    U = np.array([[9, 1, 5, 6], [3, 9, 7, 6], [0, 0, 9, 4], [0, 4, 8, 9]])
    close(itf.set_mean_component(U, 2), [[2, 2, 6, 6], [2, 2, 6, 6], [1, 1, 6, 6], [1, 1, 6, 6]])


def test_feature_dimensionality_of_known_shapes():
    turn = 2 * np.pi * np.arange(5) / 5
    close(itf.feature_dimensionality(np.array([np.cos(turn), np.sin(turn)])), 2 / 5)
    close(itf.feature_dimensionality([[3, -3, 0], [0, 0, 0]]), [1 / 2, 1 / 2, 0])
    close(itf.feature_dimensionality(2 * np.eye(3)), 1)


def test_nearest_circulant_is_circulant_and_nearest():
    G = np.random.default_rng(0).normal(size=(5, 5))
    C = itf.nearest_circulant(G)
    close(np.roll(C, (1, 1), (0, 1)), C, err_msg="C commutes with a rotation of the features")
    close(itf.nearest_circulant(C), C)
    close(C[0], [np.mean([G[i, (i + k) % 5] for i in range(5)]) for k in range(5)],
          err_msg="means along wrapped diagonals")
    for k in range(5):
        nudged = C + 0.01 * np.roll(np.eye(5), k, axis=1)
        assert np.linalg.norm(G - nudged) > np.linalg.norm(G - C)


def test_attribution_graph_sums_to_the_preactivations():
    U, b, x, *_ = random_case()
    z = x[0] @ U.T + b
    edges = itf.attribution_graph(U, b, x[0])
    close(edges.sum(axis=1)[z > 0], (z - b)[z > 0], err_msg="the edges into a target add up to z - "
          "b")
    assert not edges[z <= 0].any() and np.any(z <= 0), "targets that do not fire have no edges"
    i, j = np.argwhere(edges != 0)[0]
    assert edges[i, j] == pytest.approx(U[i, j] * x[0, j])


def test_steering_vector_is_a_difference_of_means():
    h = np.array([[1.0, 0], [3, 2], [0, 1], [0, 3]])
    close(itf.steering_vector(h, [True, True, False, False]), [2, -1])


def test_worst_case_perturbation_is_the_worst_of_its_candidates():
    U, b, x, _, _ = random_case()
    A, v = np.eye(N), np.full(N, -0.1)
    A[2] = U[2]                                              # a target without interference: no direction
    delta, excess = itf.worst_case_perturbation(U, b, A, v, x, 0.3)
    error = lambda at: np.sum((np.maximum(at @ U.T + b, 0) - np.maximum(at @ A.T + v, 0))**2,
                              axis=1)
    close(excess, error(x + delta) - error(x), err_msg="excess is against the ideal answer at x + "
          "delta")
    close(excess, itf.excess_error(U, b, A, v, x, delta))
    for row in np.delete(U - A, 2, axis=0):
        for sign in (1, -1):
            d = 0.3 * sign * row / np.linalg.norm(row)
            assert np.all(excess >= error(x + d) - error(x) - 1e-12)
    lengths = np.linalg.norm(delta, axis=1)
    close(lengths[lengths > 0], 0.3)
    assert not itf.worst_case_perturbation(A, v, A, v, x, 0.3)[1].any(), "a perfect model scores 0"


# --- bad input ------------------------------------------------------------------------------------

x23 = np.ones((2, 3))
RNG = np.random.default_rng(0)
NAN = np.full((2, 3), np.nan)
tied = TiedModel(np.ones((2, 3)), np.zeros(3))
BAD_INPUT = {
    "density 0": (lambda: tm.sparse_features(RNG, 2, 3, 0.0),
                  r"density must be in \(0, 1\], got 0"),
    "density above 1": (lambda: tm.identity_task(3, 1.5), "density"),
    "density NaN": (lambda: tm.identity_task(3, np.nan), "density"),
    "no batch": (lambda: tm.sparse_features(RNG, 0, 3, 0.5), "batch_size"),
    "no features": (lambda: tm.sparse_features(RNG, 1, 0, 0.5), "n_features"),
    "no features in a task": (lambda: tm.identity_task(0, 0.5), "n_features"),
    "no correlated batch": (lambda: tm.correlated_features(RNG, 0, 3), "batch_size"),
    "too many active": (lambda: tm.correlated_features(RNG, 1, 3, 4), "n_active"),
    "none active": (lambda: tm.correlated_task(3, 0), "n_active"),
    "blocks do not divide": (lambda: tm.block_task(10, 3), "n_blocks"),
    "no blocks": (lambda: tm.block_task(10, 0), "n_blocks"),
    "no block features": (lambda: tm.block_task(0, 1), "n_features"),
    "weight density": (lambda: tm.block_task(10, 2, weight_density=0), "weight_density"),
    "block density": (lambda: tm.block_task(10, 2, density=2), "density"),
    "A not square": (lambda: tm.Task(x23, np.zeros(3), None), "A"),
    "v a matrix": (lambda: tm.Task(np.eye(2), np.eye(2), None), "v"),
    "importance negative": (lambda: tm.identity_task(3, 0.5, importance=[1, -1, 1]), "importance "
                            "must be >= 0"),
    "importance too long": (lambda: tm.identity_task(3, 0.5, importance=[1, 1]), "importance"),
    "sample of another width": (lambda: tm.Task(np.eye(2), np.zeros(2), lambda rng,
                                                size: np.ones((size, 3))), "sample"),
    "b too long": (lambda: TiedModel(x23, np.zeros(2)), "b must be"),
    "W_up not W_down's shape": (lambda: UntiedModel(x23, x23, np.zeros(3)), "W_up"),
    "W not finite": (lambda: TiedModel(NAN, np.zeros(3)), "W must be finite"),
    "U not square": (lambda: LiftedModel(x23, np.zeros(3)), "U must be"),
    "l1 negative": (lambda: LiftedModel(np.eye(2), np.zeros(2), -1), "l1"),
    "penalty negative": (lambda: MaskedModel(np.eye(2), np.zeros(2), np.eye(2), -1), "penalty"),
    "logits shape": (lambda: MaskedModel(np.eye(2), np.zeros(2), np.eye(3)), "logits"),
    "no residual": (lambda: TiedModel.initialise(RNG, 3, 0, scale=1), "n_residual"),
    "scale 0": (lambda: TiedModel.initialise(RNG, 3, 2, scale=0), "scale"),
    "x too wide": (lambda: tied.forward(np.ones((2, 4))), "x must be"),
    "x a vector": (lambda: tied.forward(np.ones(3)), "x must be"),
    "empty batch": (lambda: tied.loss(np.ones((0, 3)), np.ones((0, 3))), "x must be non-empty"),
    "x NaN": (lambda: tied.forward(NAN), "x must be finite"),
    "x NaN in loss": (lambda: tied.loss_and_gradients(NAN, x23), "x must be finite"),
    "y infinite in loss": (lambda: tied.loss_and_gradients(x23, np.full((2, 3), np.inf)),
                           "y must be finite"),
    "y NaN": (lambda: tied.loss(x23, NAN), "y must be finite"),
    "y shorter than x": (lambda: tied.loss_and_gradients(x23, x23[:1]), "y must be"),
    "importance shape": (lambda: tied.loss(x23, x23, [1, 2]), "importance"),
    "learning rate 0": (lambda: tm.Adam({}, 0), "learning_rate"),
    "learning rate infinite": (lambda: tm.Adam({}, np.inf), "learning_rate"),
    "gradient shape": (lambda: tm.Adam({"p": np.ones(3)}).step({"p": np.ones((3, 1))}), "gradient"),
    "no steps": (lambda: tm.train(tied, tm.identity_task(3, 0.5), 0), "steps"),
    "unknown schedule": (lambda: tm.train(tied, tm.identity_task(3, 0.5), 1, schedule="linear"),
                         "schedule must be one of .*'linear'"),
    "snapshot too late": (lambda: tm.train(tied, tm.identity_task(3, 0.5), 1, snapshots=(2,)),
                          "snapshots"),
    "snapshot too early": (lambda: tm.train(tied, tm.identity_task(3, 0.5), 1, snapshots=(-1,)),
                           "snapshots"),
    "ablation: U not square": (lambda: itf.ablation_effects(x23, np.zeros(2), x23, x23),
                               "U must be"),
    "ablation: b": (lambda: itf.ablation_effects(np.eye(3), np.zeros(2), x23, x23), "b must be"),
    "ablation: y": (lambda: itf.ablation_effects(np.eye(3), np.zeros(3), x23, x23.T), "y must be"),
    "ablation: NaN": (lambda: itf.ablation_effects(np.eye(3), np.zeros(3), NAN, x23), "x must be "
                      "finite"),
    "ablation: part": (lambda: itf.ablation_effects(np.eye(3), np.zeros(3), x23, x23,
                                                    part=np.eye(2)), "part"),
    "ablation: importance": (lambda: itf.ablation_effects(np.eye(3), np.zeros(3), x23, x23, [1, 2]),
                             "importance"),
    "one example only": (lambda: itf.ablation_standard_errors(np.eye(3), np.zeros(3), x23[:1],
                                                              x23[:1]), "at least 2"),
    "U_star shape": (lambda: itf.decompose_by_ideal(np.eye(3), np.eye(2)), "U_star"),
    "dL shape": (lambda: itf.decompose_by_loss(np.eye(3), np.eye(2)), "dL"),
    "min_rate above 1": (lambda: itf.target_weighted_attribution(np.eye(3), np.zeros(3), x23, 2),
                         "min_rate"),
    "nothing real": (lambda: itf.precision_recall(x23, x23 > 5), "no real weight"),
    "is_real shape": (lambda: itf.precision_recall(x23, x23[0] > 0), "is_real"),
    "scores NaN": (lambda: itf.precision_recall(NAN, x23 > 0), "scores must be finite"),
    "loss gain shapes": (lambda: itf.loss_gain(x23, np.ones((3, 2))), "dL"),
    "curve shapes": (lambda: itf.average_precision([1.0], [1.0, 1.0]), "precision"),
    "keep too many": (lambda: itf.pruned_loss(np.eye(3), np.zeros(3), x23, x23, np.eye(3), [10]),
                      "keep"),
    "keep negative": (lambda: itf.pruned_loss(np.eye(3), np.zeros(3), x23, x23, np.eye(3), [-1]),
                      "keep"),
    "pruned scores": (lambda: itf.pruned_loss(np.eye(3), np.zeros(3), x23, x23, np.eye(2), [1]),
                      "scores"),
    "sets do not divide": (lambda: itf.set_mean_component(np.eye(5), 2), "set_size"),
    "sets of one": (lambda: itf.set_mean_component(np.eye(5), 1), "set_size"),
    "G not square": (lambda: itf.nearest_circulant(x23), "G must be"),
    "x a matrix": (lambda: itf.attribution_graph(np.eye(3), np.zeros(3), x23), "x must be"),
    "always active": (lambda: itf.steering_vector(x23, [True, True]), "active"),
    "never active": (lambda: itf.steering_vector(x23, [False, False]), "active"),
    "size 0": (lambda: itf.worst_case_perturbation(np.eye(3), np.zeros(3), np.eye(3), np.zeros(3),
                                                   x23, 0), "size"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_names_argument_requirement_and_value(name):
    call, message = BAD_INPUT[name]
    with pytest.raises(ValueError, match=message):
        call()


# --- plots.py: the command line -------------------------------------------------------------------


def run(capsys, *arguments):
    """Exit code, standard output and error of `python plots.py ARGUMENTS`."""
    try:
        code = plots.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_list_says_what_each_figure_shows(capsys):
    code, out, _ = run(capsys, "--list")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(plots.FIGURES)
    assert all(len(line.split()) > 5 for line in out.splitlines())


@pytest.mark.parametrize("arguments, message", (
    (["pentagram"], "no figure named pentagram; there are: pentagon"), (["--seed", "-1"],
                                                                        "--seed must be 0 or more"),
    (["--format", "bmp"], "invalid choice: 'bmp'"), (["--show", "weight_sharing"], "--show needs a "
                                                     "display")))
def test_what_cannot_be_done_exits_with_2_and_says_why(capsys, monkeypatch, tmp_path, arguments,
                                                       message):
    monkeypatch.setattr(plots.matplotlib, "get_backend", lambda *_, **__: "agg")
    code, _, err = run(capsys, *arguments, "--out", tmp_path)
    assert code == 2 and message in err and not any(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ("png", "svg", "pdf"))
def test_a_figure_is_the_same_bytes_alone_and_with_others(capsys, tmp_path, suffix):
    run(capsys, "weight_sharing", "--out", tmp_path / "alone", "--format", suffix)
    code, out, _ = run(capsys, "weight_sharing", "weight_sharing", "--out", tmp_path / "both",
                       "--format", suffix)
    assert code == 0 and re.search(r"\[ 1/2\] weight_sharing +\d+\.\d s  largest relative "
                                   r"deviation [\d.]+ -> .*weight_sharing." + suffix, out)
    first, second = ((tmp_path / folder / f"weight_sharing.{suffix}").read_bytes()
                     for folder in ("alone", "both"))
    assert first == second, "a date, a random id or shared state is in the file"


def test_a_failing_figure_does_not_stop_the_others_or_leave_half_a_file(capsys, monkeypatch,
                                                                        tmp_path):
    def broken(seed):
        raise ArithmeticError("no luck")
    monkeypatch.setitem(plots.FIGURES, "pentagon", broken)
    code, out, err = run(capsys, "pentagon", "weight_sharing", "--out", tmp_path)
    assert code == 1 and "FAILED: ArithmeticError: no luck" in out and "failed: pentagon" in err
    assert [path.name for path in tmp_path.iterdir()] == ["weight_sharing.png"]
    monkeypatch.setattr(plots.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    code, out, _ = run(capsys, "weight_sharing", "--out", tmp_path / "full")
    assert code == 1 and "disk full" in out and not any((tmp_path
                                                         / "full").iterdir()), "a partial file was left behind"


def test_every_builder_states_its_question_status_and_source():
    for name, builder in plots.FIGURES.items():
        assert "?" in builder.__doc__.splitlines()[0], f"{name}: the first line is the question and its answer"
        assert "Status:" in builder.__doc__, f"{name}: exact, reproduced or our observation?"


# --- README.md ------------------------------------------------------------------------------------

README = (pathlib.Path(__file__).parent / "README.md").read_text()


def test_readme_names_every_figure_and_every_test_that_it_cites():
    for name in plots.FIGURES:
        assert f"`{name}`" in README, f"figure {name} is not in the README"
    for cited in set(re.findall(r"\btest_\w+", README)) - {"test_all"}:
        assert cited in globals(), f"README cites {cited}, which does not exist"
    for picture in re.findall(r"!\[(.*?)\]\((.*?)\)", README):
        assert picture[0] and (pathlib.Path(__file__).parent / picture[1]).exists(), picture


# --- claims: what must be seen in the figures, on real configurations -----------------------------


@lru_cache(maxsize=None)
def numbers(figure, seed):
    return plots.FIGURES[figure](seed)[1]


two_seeds = pytest.mark.parametrize("seed", (0, 1))


@two_seeds
def test_claim_pentagon(seed):
    shown = numbers("pentagon", seed)
    assert [len(shown[f"gaps at density {d}"]) for d in ("1", "0.2",
                                                         "0.05")] == [2, 4, 5], "2, then 4, then 5 features stored"
    close(sorted(shown["gaps at density 1"]), [90, 270], atol=4, err_msg="orthogonal")
    close(shown["gaps at density 0.2"], 90, atol=6, err_msg="two antipodal pairs, at right angles")
    close(shown["gaps at density 0.05"], 72, atol=3)


@two_seeds
def test_claim_virtual_weights(seed):
    shown = numbers("virtual_weights", seed)
    assert shown["diagonal mean"] == pytest.approx(0.93, abs=0.02)
    assert shown["interference std"] == pytest.approx(0.19, abs=0.01)


@two_seeds
def test_claim_decomposition(seed):
    shown = numbers("decomposition", seed)
    assert shown["real"] == shown["real on diagonal"] == 100, "100 weights with dL > 1e-4, all on the diagonal"
    assert shown["U* off identity"] < 0.02 and shown["ideal loss ratio"] < 0.01


@two_seeds
def test_claim_weight_histogram(seed):
    shown = numbers("weight_histogram", seed)
    assert abs(shown["interference mean"]) < 0.05 and 0.88 < shown["real mean"] < 0.96 and shown["gap"] > 0.2


@two_seeds
def test_claim_two_models(seed):
    shown = numbers("two_models", seed)
    for name in ("undertrained", "converged"):
        assert abs(shown[f"{name} interference r"]) < 0.1 and shown[f"{name} smallest real"] > 0
    assert shown["converged diagonal sd"] < 0.03 and shown["converged edge"] == pytest.approx(0.32, abs=0.03)


@two_seeds
def test_claim_block_two_models(seed):
    shown = numbers("block_two_models", seed)
    assert 0.45 < shown["real r"] < 0.75 and abs(shown["interference r"]) < 0.1


FIVE = range(5)


def test_claim_block_histogram():
    for seed in FIVE:
        shown = numbers("block_histogram", seed)
        assert 0.15 < shown["interference std"] < 0.22 and -0.10 < shown["interference mean"] < -0.06
        assert shown["overlap"] > 0.2, "real weights should hide in the bulk"


def test_claim_learned_vs_ideal():
    for seed in FIVE:
        shown = numbers("learned_vs_ideal", seed)
        assert shown["shrunk"] > 0.9 and shown["unlearned"] > 0.3 and shown["largest interference"] > 0.5


def test_claim_precision_recall():
    shown = [numbers("precision_recall", seed) for seed in FIVE]
    mean = {name: np.mean([s[name] for s in shown]) for name in plots.SCORE_STYLES}
    assert mean["era"] > mean["guarded_twera"] > mean["weight"] > mean["frequency"], "the note's order, on average"
    for s in shown:
        assert s["ideal"] == 1 and s["second_order"] > s["era"] and s["second order r"] > 0.9
        assert 0.004 < s["base rate"] < 0.015 and s["twera"] < 0.5 * s["guarded_twera"] and s["rare in TWERA's top 100"] > 50
        assert all(s["base rate"] < s[name] < 1 for name in ("era", "guarded_twera", "weight",
                                                             "frequency"))
        assert s["era"] > s["weight"] > s["frequency"], "holds on each of these seeds"


def test_claim_loss_gain():
    for seed in FIVE:
        shown = numbers("loss_gain", seed)
        assert 0.75 < shown["all over oracle"] < 0.92
        for name in ("second_order", "era", "guarded_twera", "weight"):
            assert shown[f"{name} best"] > shown["all over oracle"], "some prefix beats the whole model"


def test_claim_weight_sharing():
    shown = numbers("weight_sharing", 0)
    assert shown["largest relative deviation"] < 0.01
    close(shown["ratios"], 1 / (1 + np.cos(np.radians([90, 112.5, 135, 157.5, 180]))**2), rtol=0.01)


def test_claim_converged_geometry():
    shown = numbers("converged_geometry", 0)
    assert shown["pairs at cos 72"] >= 5 and shown["pairs at cos 144"] >= 5 and shown["antipodal "
                                                                                      "pairs"] >= 5
    assert shown["dimensions used"] == pytest.approx(20, abs=0.5), "dimensionalities add up to m"
    assert shown["densest bin"] > 0.8 * shown["largest"], "a sharp edge: most weights sit just below the largest"


def test_claim_correlated_features():
    shown = numbers("correlated_features", 0)
    assert shown["within mean"] > 0.05 and shown["between mean"] < -0.06 and shown["between sd"] > shown["within sd"]
    assert shown["loss without set means"] > 1.3 and shown["helps"] > 0 > shown["harms"]


def test_claim_definitions():
    shown = numbers("definitions", 0)
    assert shown["ideal loss"] < shown["mask loss"] < shown["whole loss"]
    assert shown["predicted change"] < 0 and shown["true change"] != pytest.approx(shown["predicted change"], rel=0.01)
    assert np.array_equal(shown["overlap"],
                          shown["overlap"].T) and shown["overlap"][0, 2] < shown["overlap"][0, 0]


def test_claim_second_order():
    for seed in FIVE:
        shown = numbers("second_order", seed)
        assert shown["r"] > 0.9 and shown["error share of flippers"] > 0.5


@two_seeds
def test_claim_pruned_loss(seed):
    shown = numbers("pruned_loss", seed)
    assert shown["rising ratio"] > 2, "the true loss blows up while summed dL rises"
    assert 60 <= shown["mask kept"] <= 120 and shown["mask in A"] >= 0.9 * shown["mask kept"]
    assert shown["mask loss"] < 0.85 * shown["whole loss"]
    for (name, refit), losses in shown["losses"].items():
        assert refit or np.all(shown["losses"][name, True] <= losses + 1e-6), "a refit cannot hurt"


@two_seeds
def test_claim_effectiveness(seed):
    shown = numbers("effectiveness", seed)
    assert shown["helpful in the top 1 %"] > shown["helpful overall"]
    assert shown["dL of the most effective"] > shown["its half interval"] > 0, "the most effective weight helps"


def test_claim_attribution_graph():
    shown = numbers("attribution_graph", 0)
    assert shown["graphs"][0] > 0.9 and shown["graphs"][-1] < 0.75, "dense inputs: graphs stop side-stepping interference"
    assert all(graph >= weight for graph, weight in zip(shown["graphs"], shown["weights"]))


@two_seeds
def test_claim_adversarial(seed):
    shown = numbers("adversarial", seed)
    assert shown["ratio"] >= 10 and shown["worst case"] > shown["filtered, same"]


@two_seeds
def test_claim_equivariance(seed):
    shown = numbers("equivariance", seed)
    assert shown["distance to a circulant"] < 0.01 < shown["control"] < shown["random"] and shown["off-peak"] < 0.01


@two_seeds
def test_claim_steering(seed):
    shown = numbers("steering", seed)
    assert shown["r, open gates"] > 0.95 and shown["features seen"] > 50


def test_claim_training():
    film, shown = plots.training(0)
    content, again = (plots.encode(plots.training(0, frames=4)[0], "gif") for _ in range(2))
    assert content == again, "the same film twice, byte for byte"
    assert len(film) == shown["frames"] > 20 and len(content) / 4 * len(film) < 3e6, "under 3 MB"


CLAIM = re.compile(r"^\|.*\| ([-+\d.,]+)(?: %)? \| `(\w+)\[\"(.*?)\"\]` \| `test_\w+` \|$",
                   re.MULTILINE)


def test_claim_readme_numbers_are_what_the_code_computes():
    rows = CLAIM.findall(README)
    assert len(rows) >= 15, "the claim table has lost its shape"
    for written, figure, key in rows:
        value = numbers(figure, 0)[key]
        digits = len(written.partition(".")[2])
        assert any(f"{scale * value:.{digits}f}" == written.lstrip("+")
                   for scale in (1, 100)), f"{figure}[{key!r}] is {value}, README says {written}"
