"""Plays POPGym's own environments and prints one JSON object a line for each episode: its name as `infformer_rl` has
it, what was random at its beginning, and what followed each action. Ends with status 3 where POPGym is missing."""

import json
import random
import sys

try:
    import numpy as np
    from popgym.envs.autoencode import AutoencodeEasy, AutoencodeHard, AutoencodeMedium
    from popgym.envs.battleship import BattleshipEasy, BattleshipHard, BattleshipMedium
    from popgym.envs.concentration import ConcentrationEasy, ConcentrationHard, ConcentrationMedium
    from popgym.envs.count_recall import CountRecallEasy, CountRecallHard, CountRecallMedium
    from popgym.envs.higher_lower import HigherLowerEasy, HigherLowerHard, HigherLowerMedium
    from popgym.envs.multiarmed_bandit import MultiarmedBanditEasy, MultiarmedBanditHard, MultiarmedBanditMedium
    from popgym.envs.position_only_cartpole import (
        PositionOnlyCartPoleEasy,
        PositionOnlyCartPoleHard,
        PositionOnlyCartPoleMedium,
    )
    from popgym.envs.repeat_first import RepeatFirstEasy, RepeatFirstHard, RepeatFirstMedium
    from popgym.envs.repeat_previous import RepeatPreviousEasy, RepeatPreviousHard, RepeatPreviousMedium
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

EPISODES = 10


def dealt(deck):
    """The cards of a deck in the order of dealing, which begins at its end."""
    return [int(card) % 52 for card in deck.idx[::-1]]


def any_choice(env):
    return random.randrange(env.action_space.n)


def sometimes_a_pair(env):
    """Random cards alone hardly ever finish a game, and never a short one."""
    if env.aimless:
        return any_choice(env)
    deck, classes = env.deck, env.deck_idx_type[env.deck.idx]
    down = [card for card in range(len(classes)) if card not in deck["face_up_idx"]]
    if random.random() < 0.1:
        return random.randrange(len(classes))
    turned = deck["in_play_idx"]
    alike = [card for card in down if turned and card != turned[0] and classes[card] == classes[turned[0]]]
    return random.choice(alike or down)


def sometimes_a_ship(env):
    if env.aimless or random.random() < 0.5:
        return divmod(random.randrange(env.board_size**2), env.board_size)
    ships = np.argwhere((env.board == 1) & (env.guesses == 0))
    return tuple(int(part) for part in random.choice(ships))


def balance(env):
    if env.aimless:
        return random.randrange(2)
    x, velocity, angle, turning = env.state
    return int(angle + 0.3 * turning + 0.03 * x + 0.06 * velocity > 0)


def sure_arms(env):
    """Payouts that do not depend on chance."""
    env.bandits = np.array([random.randrange(2) for _ in env.bandits], dtype=np.float32)
    return [[float(arm) for arm in env.bandits]]


# Name, the three difficulties, what was random at the beginning, and who plays.
GAMES = [
    ("repeat-first", (RepeatFirstEasy, RepeatFirstMedium, RepeatFirstHard), lambda env: [dealt(env.deck)], any_choice),
    (
        "repeat-previous",
        (RepeatPreviousEasy, RepeatPreviousMedium, RepeatPreviousHard),
        lambda env: [dealt(env.deck)],
        any_choice,
    ),
    ("autoencode", (AutoencodeEasy, AutoencodeMedium, AutoencodeHard), lambda env: [dealt(env.deck)], any_choice),
    (
        "count-recall",
        (CountRecallEasy, CountRecallMedium, CountRecallHard),
        lambda env: [dealt(env.value_deck), dealt(env.query_deck)],
        # Newer versions have one choice more than those that results were published for.
        lambda env: random.randrange(env.max_card_count),
    ),
    (
        "concentration",
        (ConcentrationEasy, ConcentrationMedium, ConcentrationHard),
        lambda env: [[int(card) % 52 for card in env.deck.idx]],
        sometimes_a_pair,
    ),
    (
        "battleship",
        (BattleshipEasy, BattleshipMedium, BattleshipHard),
        lambda env: [[int(cell) for cell in env.board.flatten()]],
        sometimes_a_ship,
    ),
    ("higher-lower", (HigherLowerEasy, HigherLowerMedium, HigherLowerHard), lambda env: [dealt(env.deck)], any_choice),
    (
        "multiarmed-bandit",
        (MultiarmedBanditEasy, MultiarmedBanditMedium, MultiarmedBanditHard),
        sure_arms,
        any_choice,
    ),
    (
        "position-only-cart-pole",
        (PositionOnlyCartPoleEasy, PositionOnlyCartPoleMedium, PositionOnlyCartPoleHard),
        lambda env: [[float(number) for number in env.state]],
        balance,
    ),
]


def numbers(values):
    """An observation of any shape as a list."""
    return [float(value) for value in np.concatenate([np.ravel(value) for value in np.atleast_1d(values)])]


def main():
    random.seed(1)
    for kind, difficulties, setup, player in GAMES:
        for difficulty, make in zip(("easy", "medium", "hard"), difficulties):
            env = make()
            for episode in range(EPISODES):
                first, _ = env.reset(seed=episode)
                # Every second episode is played at random, so that both endings are met.
                env.aimless = episode % 2 == 0
                line = {"name": f"{kind}-{difficulty}", "setup": setup(env), "observations": [numbers(first)]}
                line |= {"actions": [], "rewards": [], "endings": []}
                terminated = truncated = False
                while not (terminated or truncated):
                    action = player(env)
                    observation, reward, terminated, truncated, _ = env.step(action)
                    cell = isinstance(action, tuple)
                    line["actions"].append(action[0] * env.board_size + action[1] if cell else action)
                    line["observations"].append(numbers(observation))
                    line["rewards"].append(float(reward))
                    line["endings"].append([bool(terminated), bool(truncated)])
                print(json.dumps(line))


main()
