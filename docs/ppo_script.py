"""PPO on MinAtar's Breakout in one file: `python docs/ppo_script.py`."""

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax
from flax.linen.initializers import orthogonal
from flax.training.train_state import TrainState

CONFIG = {
    "ENV_NAME": "Breakout-MinAtar",
    "SEED": 0,
    "TOTAL_FRAMES": 327_680,
    "NUM_ENVS": 64,
    "NUM_STEPS": 128,
    "UPDATE_EPOCHS": 4,
    "NUM_MINIBATCHES": 8,
    "WIDTH": 128,
    "LR": 5e-3,
    "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95,
    "CLIP_EPS": 0.2,
    "ENT_COEF": 0.01,
    "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5,
}


class ActorCritic(nn.Module):
    """Logits and value from the same two hidden layers."""

    actions: int
    width: int

    @nn.compact
    def __call__(self, x):
        """Logits (batch, actions) and values (batch,) of observations."""
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width, kernel_init=orthogonal(2**0.5))(x))
        logits = nn.Dense(self.actions, kernel_init=orthogonal(0.01))(x)
        return logits, nn.Dense(1, kernel_init=orthogonal(1.0))(x)[:, 0]


def make_train(config):
    """A function from a key to the trained state and the metrics of every iteration."""
    env, env_params = gymnax.make(config["ENV_NAME"])
    reset, env_step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))
    batch_size = config["NUM_ENVS"] * config["NUM_STEPS"]
    iterations = config["TOTAL_FRAMES"] // batch_size
    updates = config["UPDATE_EPOCHS"] * config["NUM_MINIBATCHES"]

    def train(key):
        key, init_key, env_key = jax.random.split(key, 3)
        network = ActorCritic(env.num_actions, config["WIDTH"])
        obs, env_state = reset(jax.random.split(env_key, config["NUM_ENVS"]), env_params)

        def rate(count):
            return config["LR"] * (1 - (count // updates) / iterations)

        optimizer = optax.chain(
            optax.clip_by_global_norm(config["MAX_GRAD_NORM"]), optax.adam(rate, eps=1e-5)
        )
        params = network.init(init_key, obs)
        train_state = TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)

        def play(runner, key):
            train_state, env_state, obs, episode = runner
            act_key, step_key = jax.random.split(key)
            logits, value = network.apply(train_state.params, obs)
            action = jax.random.categorical(act_key, logits)
            log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
            keys = jax.random.split(step_key, config["NUM_ENVS"])
            next_obs, env_state, reward, terminated, truncated, _ = env_step(
                keys, env_state, action, env_params
            )
            done, episode = terminated | truncated, episode + reward
            frame = {
                "obs": obs,
                "action": action,
                "log_prob": log_prob,
                "value": value,
                "reward": reward,
                "done": done,
            }
            finished = jnp.where(done, episode, 0.0)
            return (train_state, env_state, next_obs, jnp.where(done, 0.0, episode)), (frame, finished)

        def advantage(carry, frame):
            gae, next_value = carry
            alive = 1 - frame["done"]
            delta = frame["reward"] + config["GAMMA"] * next_value * alive - frame["value"]
            gae = delta + config["GAMMA"] * config["GAE_LAMBDA"] * alive * gae
            return (gae, frame["value"]), gae

        def loss_fn(params, batch):
            logits, value = network.apply(params, batch["obs"])
            log_probs = jax.nn.log_softmax(logits)
            log_prob = jnp.take_along_axis(log_probs, batch["action"][:, None], 1)[:, 0]
            ratio = jnp.exp(log_prob - batch["log_prob"])
            gae = (batch["gae"] - batch["gae"].mean()) / (batch["gae"].std() + 1e-8)
            clip = config["CLIP_EPS"]
            actor_loss = -jnp.minimum(ratio * gae, jnp.clip(ratio, 1 - clip, 1 + clip) * gae).mean()
            clipped = batch["value"] + jnp.clip(value - batch["value"], -clip, clip)
            errors = jnp.maximum((value - batch["target"]) ** 2, (clipped - batch["target"]) ** 2)
            entropy = -(jnp.exp(log_probs) * log_probs).sum(1).mean()
            return actor_loss + config["VF_COEF"] * 0.5 * errors.mean() - config["ENT_COEF"] * entropy

        def update_minibatch(train_state, batch):
            grads = jax.grad(loss_fn)(train_state.params, batch)
            return train_state.apply_gradients(grads=grads), None

        def iteration(runner, key):
            play_key, shuffle_key = jax.random.split(key)
            runner, (frames, finished) = jax.lax.scan(
                play, runner, jax.random.split(play_key, config["NUM_STEPS"])
            )
            train_state, env_state, obs, episode = runner
            _, last_value = network.apply(train_state.params, obs)
            _, gae = jax.lax.scan(advantage, (jnp.zeros_like(last_value), last_value), frames, reverse=True)
            frames |= {"gae": gae, "target": gae + frames["value"]}
            frames = jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), frames)
            keys = jax.random.split(shuffle_key, config["UPDATE_EPOCHS"])
            order = jax.vmap(lambda key: jax.random.permutation(key, batch_size))(keys).reshape(updates, -1)

            def take(rows):
                return jax.tree.map(lambda x: x[rows], frames)

            train_state, _ = jax.lax.scan(
                lambda state, rows: update_minibatch(state, take(rows)), train_state, order
            )
            metrics = {"return": finished.sum() / jnp.maximum(frames["done"].sum(), 1)}
            return (train_state, env_state, obs, episode), metrics

        runner = (train_state, env_state, obs, jnp.zeros(config["NUM_ENVS"]))
        runner, metrics = jax.lax.scan(iteration, runner, jax.random.split(key, iterations))
        return runner[0], metrics

    return train


if __name__ == "__main__":
    train_state, metrics = jax.jit(make_train(CONFIG))(jax.random.key(CONFIG["SEED"]))
    for name, values in metrics.items():
        print(f"{name:33}", *(f"{value:6.2f}" for value in values[:: len(values) // 5]), f"{values[-1]:6.2f}")
