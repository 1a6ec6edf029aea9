import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lab.run.errors import LabError
from experiments.reinforcement_learning import dqn, games, ppo, report
from experiments.reinforcement_learning import experiment as reinforcement_learning
from experiments.reinforcement_learning.agent import SHARES, Doctor, Measures, Network, Period, Run

RANDOM = np.random.default_rng(0)
SETTING = dqn.Setting(
    "breakout", 24, 1, 4, (9, 7), batch_size=8, probe=16, warm_up=40, target_period=6, replay=60
)


def test_the_huber_loss_against_its_formula():
    values, action = RANDOM.normal(0, 2, (50, 3)), RANDOM.integers(0, 3, 50)
    target = RANDOM.normal(0, 2, 50)
    error = np.abs(values[np.arange(50), action] - target)
    expected = np.where(error <= 1, error**2 / 2, error - 0.5).mean()
    samples = dqn.Samples(None, jnp.array(action), jnp.array(target))
    assert dqn.huber(jnp.array(values), samples) == pytest.approx(expected, rel=1e-5)


def test_advantages_against_the_sum_that_defines_them():
    reward, value, last = RANDOM.normal(size=(6, 2)), RANDOM.normal(size=(6, 2)), RANDOM.normal(size=2)
    done = np.array([[0, 0], [0, 1], [0, 0], [1, 0], [0, 0], [0, 1]], bool)
    errors = reward + 0.99 * (1 - done) * np.vstack([value[1:], last]) - value
    expected = np.zeros_like(reward)
    for game in range(2):
        for start in range(6):
            for step in range(start, 6):
                expected[start, game] += (0.99 * 0.95) ** (step - start) * errors[step, game]
                if done[step, game]:
                    break
    found = ppo.advantages(*map(jnp.array, (reward, value, done, last)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_clipped_objective_against_its_formula():
    n = 200
    logits, value = RANDOM.normal(size=(n, 3)), RANDOM.normal(size=n)
    action, old, target = RANDOM.integers(0, 3, n), RANDOM.normal(size=n), RANDOM.normal(size=n)
    advantage = RANDOM.normal(1, 3, n)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    before = np.log(chances[np.arange(n), action]) + RANDOM.normal(0, 0.3, n)
    ratio = chances[np.arange(n), action] / np.exp(before)
    gain = (advantage - advantage.mean()) / advantage.std()
    policy = -np.minimum(ratio * gain, ratio.clip(0.8, 1.2) * gain).mean()
    near = old + (value - old).clip(-0.2, 0.2)
    critic = np.maximum((value - target) ** 2, (near - target) ** 2).mean() / 2
    entropy = -(chances * np.log(chances)).sum(1).mean()
    samples = ppo.Samples(None, *map(jnp.array, (action, before, old, advantage, target)))
    found = ppo.objective(jnp.array(logits), jnp.array(value), samples)
    assert found == pytest.approx(policy + 0.5 * critic - 0.01 * entropy, rel=1e-4)


def adam(step, weights, gradients, moments, rate, epsilon):
    """Kingma and Ba's algorithm 1, in place."""
    for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        change = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + epsilon)
        weight -= rate * change


def test_the_learning_rate_of_ppo_falls_once_an_iteration_and_gradients_are_clipped():
    optimizer = ppo.optimizer_of(96)
    weights = [np.zeros(2)]
    params, moments = jnp.zeros(2), [(np.zeros(2), np.zeros(2))]
    state = optimizer.init(params)
    for step in range(96):
        gradient = RANDOM.normal(size=2)
        changes, state = optimizer.update(jnp.array(gradient), state)
        params = params + changes
        gradient = gradient * min(1, 0.5 / np.linalg.norm(gradient))
        adam(step + 1, weights, [gradient], moments, 0.005 * (1 - step // 32 / 3), 1e-5)
    np.testing.assert_allclose(params, weights[0], rtol=1e-4)


class Replay:
    """DQN in NumPy, in float64, on the games, keys and samples of flashbax that the program has."""

    def __init__(self, run):
        gymnax, flashbax = pytest.importorskip("gymnax"), pytest.importorskip("flashbax")
        self.env, self.params = gymnax.make("Breakout-MinAtar")
        self.slope = float(run.negative_slope)
        start, self.reset, self.play_key, self.update_key, _ = jax.random.split(jax.random.key(run.seed), 5)
        network = Network((3,), (9, 7))
        initial = network.init(start, jnp.zeros((1, 10, 10, 4)), 0.0)["params"]
        self.weights = [
            np.array(initial[layer][name], np.float64)
            for layer in ("Dense_0", "Dense_1", "Dense_2")
            for name in ("kernel", "bias")
        ]
        self.moments = [(np.zeros_like(one), np.zeros_like(one)) for one in self.weights]
        self.buffer = flashbax.make_item_buffer(60, 40, 8)
        self.rewards, self.ends, self.losses, self.never_active = [], [], [], []

    def forward(self, weights, x):
        inputs, z = [x.reshape(len(x), -1).astype(np.float64)], []
        for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
            z.append(inputs[-1] @ kernel + bias)
            inputs.append(np.where(z[-1] > 0, z[-1], self.slope * z[-1]))
        return inputs, z

    def live(self):
        observation, state = self.env.reset(self.reset, self.params)
        empty = jnp.zeros((10, 10, 4), bool)
        kept = self.buffer.init(dqn.Transition(empty, jnp.int32(0), jnp.float32(0), jnp.bool_(False), empty))
        target = [one.copy() for one in self.weights]
        for frame in range(64):
            choose, explore, step = jax.random.split(jax.random.fold_in(self.play_key, frame), 3)
            action = int(self.forward(self.weights, np.array(observation)[None])[1][-1].argmax())
            if jax.random.uniform(choose) < np.clip(1 - (frame - 40) / 12, 0.01, 1):
                action = int(jax.random.randint(explore, (), 0, 3))
            following, state, reward, ended, cut, info = self.env.step(step, state, action, self.params)
            item = (observation > 0, jnp.int32(action), reward, ended, info["final_observation"] > 0)
            kept, observation = self.buffer.add(kept, dqn.Transition(*item)), following
            self.rewards.append(float(reward))
            self.ends.append(bool(ended | cut))
            if frame >= 40:
                key = jax.random.fold_in(self.update_key, frame - 40)
                self.learn(self.buffer.sample(kept, key).experience, target, frame - 39)
                if (frame - 39) % 6 == 0:
                    target = [one.copy() for one in self.weights]

    def learn(self, batch, target, step):
        best = self.forward(target, np.array(batch.following))[1][-1].max(1)
        wanted = np.array(batch.reward) + 0.99 * np.where(batch.terminated, 0, best)
        inputs, z = self.forward(self.weights, np.array(batch.observation))
        rows, action = np.arange(8), np.array(batch.action)
        error = z[-1][rows, action] - wanted
        self.losses.append(np.where(np.abs(error) <= 1, error**2 / 2, np.abs(error) - 0.5).mean())
        delta = np.zeros_like(z[-1])
        delta[rows, action] = error.clip(-1, 1) / 8
        gradients = []
        for place in (2, 1, 0):
            gradients = [inputs[place].T @ delta, delta.sum(0), *gradients]
            if place:
                delta = (delta @ self.weights[2 * place].T) * np.where(z[place - 1] > 0, 1, self.slope)
        adam(step, self.weights, gradients, self.moments, 2.5e-4, 3.125e-4)


@pytest.mark.peer  # gymnax and flashbax are in that environment
def test_a_life_of_dqn_against_numpy():
    run = Run(np.float32(0.2), np.float32(-1), np.uint32(3))
    replay = Replay(run)
    replay.live()
    life = jax.jit(functools.partial(dqn.train, setting=SETTING))(run, ())
    np.testing.assert_array_equal(life.update, np.arange(0, 25, 4))
    np.testing.assert_array_equal(life.frame, np.arange(0, 25, 4))
    np.testing.assert_allclose(life.loss[1:], np.reshape(replay.losses, (6, 4)).mean(1), rtol=1e-3)
    # The returns that the environment's own rewards add up to, from one end of an episode to the next.
    running, total, after = 0.0, 0.0, []
    for reward, end in zip(replay.rewards, replay.ends, strict=True):
        running += reward
        total, running = (total + running, 0.0) if end else (total, running)
        after.append(total)
    expected = np.diff([after[39], *after[43::4]])
    assert sum(replay.ends) == 3
    assert total > 0
    np.testing.assert_array_equal(life.returns[1:], expected)
    np.testing.assert_array_equal(life.episodes[1:], np.reshape(replay.ends[40:], (6, 4)).sum(1))


def doctor(layer_norm=False):
    import optax

    network = Network((3,), (9, 7), layer_norm)
    return network, Doctor(network, optax.adam(1e-3), (10, 10, 4))


def examined(tau, cure=True, layer_norm=False):
    """A learner before and after, with two units of the first layer dead; its measures, and new weights."""
    network, hands = doctor(layer_norm)
    learner = hands.begin(jax.random.key(0))
    kernel = learner.params["params"]["Dense_0"]["kernel"]
    learner.params["params"]["Dense_0"]["kernel"] = kernel.at[:, :2].set(-1.0)
    learner = learner._replace(optimizer_state=jax.tree.map(lambda x: x + 1, learner.optimizer_state))
    batch = dqn.Samples(
        jnp.array(RANDOM.random((64, 10, 10, 4)) < 0.2), jnp.array(RANDOM.integers(0, 3, 64)), jnp.ones(64)
    )

    def loss(params, slope, samples):
        return dqn.huber(network.apply(params, samples.observation, slope)[0], samples)

    run = Run(jnp.float32(0), jnp.float32(tau), np.uint32(0))
    key = jax.random.key(9)
    examine = jax.jit(functools.partial(hands.examine, loss=loss))
    after, measures = examine(run, learner, batch=batch, key=key, cure=cure)
    return learner, after, measures, hands.initialize(key), batch


def test_dormant_units_are_counted_and_begun_anew_with_their_moments():
    before, after, measures, fresh, batch = examined(0.0)
    x = np.array(batch.observation, np.float64).reshape(64, -1)
    old, new = before.params["params"], after.params["params"]
    dead, lost = np.zeros(9, bool), np.zeros(7, bool)
    h = np.maximum(x @ np.float64(old["Dense_0"]["kernel"]), 0)
    dead[(h == 0).all(0)] = True
    lost[(h @ np.float64(old["Dense_1"]["kernel"]) <= 0).all(0)] = True
    assert dead[:2].all()
    assert not dead.all()
    for name in SHARES[2:]:
        np.testing.assert_allclose(measures.layers["never_active"], [dead.mean(), lost.mean()], rtol=1e-6)
        assert measures.layers[name][0] >= dead.mean() - 1e-6
    assert measures.restarted == dead.sum() + lost.sum()
    taken = fresh["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(new["Dense_0"]["kernel"][:, dead], taken[:, dead])
    np.testing.assert_array_equal(new["Dense_0"]["kernel"][:, ~dead], old["Dense_0"]["kernel"][:, ~dead])
    assert not np.asarray(new["Dense_1"]["kernel"])[dead].any()
    for moment in (after.optimizer_state[0].mu, after.optimizer_state[0].nu):
        kernel = np.asarray(moment["params"]["Dense_0"]["kernel"])
        assert not kernel[:, dead].any()
        assert (kernel[:, ~dead] == 1).all()


def test_nobody_is_begun_anew_without_a_threshold_or_before_training():
    for tau, cure in ((-1.0, True), (0.5, False)):
        before, after, measures, *_ = examined(tau, cure)
        assert measures.restarted == 0
        jax.tree.map(np.testing.assert_array_equal, before, after)


def test_units_behind_a_layer_norm_are_counted_and_left_alone():
    before, after, measures, *_ = examined(10.0, layer_norm=True)
    assert measures.restarted == 0
    assert measures.layers["dormant@0.1"].shape == (2,)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def life_of(counts=2, layers=2):
    shares = {name: np.full((counts, layers), 0.25, np.float32) for name in SHARES}
    rank = np.full(counts, 3.0, np.float32)
    zeros = np.zeros(counts, np.int32)
    return Period(
        np.arange(counts) * 100,
        np.arange(counts) * 50,
        np.float32([0, 4]),
        np.array([0, 2]),
        np.float32([0, 0.5]),
        Measures(shares, rank, zeros),
    )


@pytest.mark.parametrize("arm", reinforcement_learning.ARMS)
def test_records_tell_their_arm_and_when_they_diverged(arm):
    run = reinforcement_learning.run_of(arm, 4, 0.025)
    norm = arm == "relu_norm"
    first, second = reinforcement_learning.records_of("freeway", "dqn_4", norm, run, life_of())
    assert (second["arm"], second["seed"], second["frame"], second["loss"]) == (arm, 4, 100, 0.5)
    assert first["loss"] is None
    assert not second["diverged"]
    bad = life_of()._replace(loss=np.float32([0, np.nan]))
    first, second = reinforcement_learning.records_of("freeway", "dqn_4", norm, run, bad)
    assert (first["diverged"], second["diverged"]) == (False, True)


def test_the_runs_of_a_program_share_all_but_scalars():
    config = reinforcement_learning.Config(seeds=2, environments=("breakout", "freeway"))
    groups = reinforcement_learning.groups_of(config)
    assert len(groups) == 2 * 4 * 2
    assert sum(len(group.runs) for group in groups) == 2 * 4 * 6 * 2
    setting = groups[0].train.keywords["setting"]
    assert (setting.cycle, setting.periods, setting.layer_norm) == ((4, 1), 3, False)
    for preset in reinforcement_learning.PRESETS.values():
        assert reinforcement_learning.groups_of(dataclasses.replace(config, **preset))


@pytest.mark.parametrize("package", ["gymnax", "six"])
def test_a_missing_package_is_one_sentence(monkeypatch, package):
    def without(_):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(games.importlib, "import_module", without)
    with pytest.raises(
        LabError,
        match=rf"^{package} is missing.*pip install -e '\.\[reinforcement-learning\]' in the folder",
    ):
        games.make("breakout")


def test_an_unknown_game_is_one_sentence():
    with pytest.raises(
        LabError, match=r"^--environments holds pong: give 'breakout', 'space_invaders' or 'freeway'\.$"
    ):
        reinforcement_learning.Config(environments=("pong",))


def made_up(method, arm, seed, frame, **changes):
    shares = {"dormant@0.025": 0.2, "dormant@0.1": 0.3, "never_active": 0.1, "grad_dead": 0.1}
    noise = 0.001 * seed
    return {
        "environment": "breakout",
        "method": method,
        "arm": arm,
        "seed": seed,
        "frame": frame,
        "update": frame,
        "returns": 6.0,
        "episodes": 3,
        "loss": 0.1,
        **{name: [value + noise, value + noise] for name, value in shares.items()},
        "effective_rank": 20.0,
        "restarted": 0,
        "diverged": False,
        **changes,
    }


NETWORK = {"hidden": (8, 8), "convolution": False}


def test_verdicts_follow_the_rows():
    rows = []
    for seed in range(5):
        for place, method in enumerate(("dqn_0.25", "dqn_4")):
            for frame in (0, 100, 200, 300):
                wide = 0.001 * seed * (frame + 100 * place)
                level = [0.2 + 0.001 * frame * (1 + place) + 0.0001 * wide] * 2
                rows.append(made_up(method, "relu", seed, frame, **{"dormant@0.025": level}))
                cured = [0.01 + 0.001 * seed] * 2
                unsure = {"returns": 6.0 + (-1) ** seed, "dormant@0.025": cured}
                rows.append(made_up(method, "relu_redo", seed, frame, **unsure))
    runs = report.runs_of(rows, NETWORK)
    directions = report.findings_of(runs)
    table = report.verdicts(runs, directions)
    found = {line[0].removeprefix("Breakout, "): line[2:] for line in table.rows}
    assert found["DQN, replay ratio 0.25: dormant units, change in training"][0] == "30.0"
    assert found["dormant units at replay ratio 4, minus at 0.25"][0] == "30.0"
    assert [line[-1] for line in table.rows] == ["reproduced"] * 5 + ["not excluded"]
    assert report.answer(directions) == "Of 6 published directions 5 are reproduced and 1 is not excluded."


def test_the_return_is_of_the_episodes_of_the_last_third():
    rows = [
        made_up("ppo", "relu", 0, frame, returns=returns, episodes=episodes)
        for frame, returns, episodes in ((0, 99.0, 1), (200, 99.0, 1), (250, 8.0, 3), (300, 0.0, 1))
    ]
    runs = report.runs_of(rows, NETWORK)
    assert runs.mean(("breakout", "ppo", "relu"), report.RETURN).mean == 2.0
    for row in rows:
        row["episodes"] = 0
    assert not report.runs_of(rows, NETWORK).mean(("breakout", "ppo", "relu"), report.RETURN).values


def test_a_figure_with_a_panel_per_method():
    pytest.importorskip("matplotlib")
    rows = [
        made_up(method, arm, seed, frame, effective_rank=20.0 * (1 + place))
        for place, method in enumerate(report.METHOD_NAMES)
        for arm in report.ARM_NAMES
        for seed in (0, 1)
        for frame in (0, 100)
    ]
    figure = report.over_frames(report.runs_of(rows, NETWORK), "breakout")
    assert len(figure.axes) == 12
    for panel in figure.axes:  # nothing is cut, in the panel on the right least of all
        assert all(line.get_ydata().max() <= panel.get_ylim()[1] for line in panel.lines)
    assert len(report.differences_table(report.runs_of(rows, NETWORK)).rows) == 20


@pytest.mark.peer  # gymnax and flashbax are in that environment
def test_smoke(tmp_path):
    pytest.importorskip("gymnax")
    pytest.importorskip("flashbax")
    config = reinforcement_learning.Config(out=tmp_path / "run", **reinforcement_learning.PRESETS["smoke"])
    reinforcement_learning.run(config)
    assert {"rows.jsonl", "summary.md", "report.html"} <= {path.name for path in config.out.iterdir()}
    rows = [json.loads(line) for line in (config.out / "rows.jsonl").read_text().splitlines()]
    assert [(row["method"], row["arm"], row["update"]) for row in rows] == [
        (method, arm, update)
        for method, updates in (("dqn_1", (0, 100, 200)), ("ppo", (0, 32, 64)))
        for arm in ("relu", "relu_redo")
        for update in updates
    ]
    for row in rows:
        assert not row["diverged"]
        assert all(0 <= value <= 1 for name in SHARES for value in row[name])
        assert (row["restarted"] > 0) <= (row["arm"] == "relu_redo" and row["update"] > 0)
    # Networks of one seed begin alike.
    assert rows[0]["never_active"] == rows[3]["never_active"]
