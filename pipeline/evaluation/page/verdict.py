"""Would you ship this model: what reports/register.json says, in a few words."""

from dataclasses import dataclass

from pipeline.evaluation.registration.outcome import RegisterReport


@dataclass(frozen=True)
class Verdict:
    """The first thing that the page says.

    Attributes:
        kind: 'promoted', 'refused', 'unchanged', or 'unproven' for a promotion without evidence.
        answer: a few words.
        sentence: which version is what now, and what the promotion does not rest on.
    """

    kind: str
    answer: str
    sentence: str


def verdict(register: RegisterReport) -> Verdict:
    """Say whether to ship the model, and which version holds the alias.

    A promotion that rests on a point estimate alone is called so.
    """
    alias, champion, decision = register.alias, register.champion, register.decision
    this = f"{register.model} version {register.version}"
    if decision == "unchanged":
        return Verdict(decision, "Nothing to ship.", f"This model is the {alias} already: {this}.")
    if decision == "promoted":
        if alias not in register.aliases:
            now = f"was promoted; the alias {alias} has been moved since"
        elif champion:
            now = f"is {alias} now, in place of version {champion.version}"
        else:
            now = f"is {alias} now"
        unshown = [check.caveat for check in register.checks if not check.shown]
        if not unshown:
            return Verdict(decision, "Ship it.", f"{this} {now}.")
        caveats = " ".join(f"{text[0].upper()}{text[1:]}." for text in unshown)
        return Verdict("unproven", "Promoted, but not proven.", f"{this} {now}. {caveats}")
    others = f"version {champion.version} is {alias}" if champion else f"there is no {alias}"
    stays = " and ".join(register.aliases) or "without an alias"
    return Verdict(decision, "Not yet.", f"{this} stays {stays}; {others}.")
