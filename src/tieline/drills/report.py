"""A drill as one HTML file that needs nothing else: figures, and a picture of the time line for each incident."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from html import escape

from tieline.drills.faults import Verdict
from tieline.drills.incident import Line, Played
from tieline.drills.score import Score
from tieline.simulator.schedule import Phase
from tieline.types.record import SUCCESS

_WIDTH, _LEFT, _RIGHT = 1000, 150, 12
_BARS_H, _FAILED_H, _LATENCY_H, _LANE_H = 150, 34, 96, 15
_GAP = 30
_BUCKETS = 100
_PALETTE = ("#2b6cb0", "#2f9e6e", "#8a63d2", "#d08a1d", "#1a9aa8", "#b0568f", "#6b7f2b", "#7a6a5a")
_FAILED = "#c92a2a"
_LATER = ".55"
"""Opacity of what was served only at the second try or later."""
MAX_LANES = 12
_STATES = {
    "closed": "#cfe8d8",
    "ramp": "#9ccfb4",
    "half_open": "#f2d27a",
    "cooling": "#f4b183",
    "busy": "#f7d4b5",
    "suspect": "#e3b5d8",
    "open": "#d9534f",
    "credential": "#8c1d18",
}
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;margin:0;background:#f6f7f9;color:#1c2430}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:0}
section{background:#fff;border:1px solid #dfe3e8;border-radius:10px;padding:18px 20px;margin:18px 0}
.about{color:#566273;margin:2px 0 12px}.ok{color:#1d7a46}.bad{color:#b42318}
.mark{float:right;font-weight:600;padding:2px 10px;border-radius:999px;font-size:13px}
.mark.ok{background:#e3f4ea}.mark.bad{background:#fdeaea}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:12px 0 4px}
dt{font-size:12px;color:#667}dd{margin:0;font-size:17px;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid #eceff2;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
ul{margin:6px 0}.legend{font-size:12px;color:#445;margin:6px 0}.legend span{display:inline-block;margin-right:14px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;vertical-align:-1px}
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:#566273}
"""


def incidents(results: list[tuple[Played, Score]]) -> str:
    """The page for incidents."""
    passed = sum(score.passed for _, score in results)
    rows = "".join(_row(score) for _, score in results)
    head = (
        "<tr><th>drill<th><th class=n>served<th class=n>first token p95<th class=n>left after<th class=n>back after"
        "<th class=n>tries<th class=n>wasted<th class=n>over ceiling<th class=n>outside<th></tr>"
    )
    body = "".join(_incident(played, score) for played, score in results)
    summary = f"<section><table>{head}{rows}</table></section>"
    return _page(
        "Outage drills", f"{passed} of {len(results)} incidents survived as they should be.", summary + body
    )


def faults(verdicts: list[Verdict]) -> str:
    """The page for single faults."""
    passed = sum(verdict.passed for verdict in verdicts)
    rows = "".join(_verdict(verdict) for verdict in verdicts)
    head = "<tr><th>fault<th><th>mode<th>upstream<th class=n>answered<th class=n>tries<th class=n>slowest<th></tr>"
    body = f"<section><table>{head}{rows}</table></section>"
    return _page("Fault drills", f"{passed} of {len(verdicts)} passed, each judged from both sides.", body)


def _page(title: str, lead: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Tieline: {escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style>'
        f'<main><h1>{escape(title)}</h1><p class="about">{escape(lead)} Real server, real sockets, simulated '
        f"providers, compressed time.</p>{body}</main></html>"
    )


def _verdict(verdict: Verdict) -> str:
    problems = "".join(f"<li>{escape(what)}</li>" for what in verdict.problems[:8])
    return (
        f"<tr><td>{escape(verdict.case)}<td>{escape(verdict.title)}{f'<ul>{problems}</ul>' if problems else ''}"
        f"<td>{verdict.mode}<td>{verdict.upstream}<td class=n>{verdict.answered}/{verdict.requests}"
        f"<td class=n>{verdict.attempts}<td class=n>{verdict.slowest_s:.2f} s<td>{_mark(verdict.passed)}</tr>"
    )


def _row(score: Score) -> str:
    return (
        f'<tr><td><a href="#{escape(score.name)}">{escape(score.name.split("-")[0])}</a><td>{escape(score.title)}'
        f"<td class=n>{score.success:.2%}<td class=n>{_seconds(score.first_token_p95_before_s)} + "
        f"{_brief(score.added_first_token_p95_s)}<td class=n>{_seconds(score.left_after_s)}"
        f"<td class=n>{_seconds(score.back_after_s)}<td class=n>{score.attempts / max(1, score.requests):.2f}"
        f"<td class=n>{_wasted(score)}<td class=n>{_over(score)}<td class=n>{_outside(score)}"
        f"<td>{_mark(score.passed)}</tr>"
    )


def _incident(played: Played, score: Score) -> str:
    figures = {
        "requests": str(score.requests),
        "served": f"{score.success:.2%}",
        "first token p95, before": _brief(score.first_token_p95_before_s),
        "added to it": _brief(score.added_first_token_p95_s),
        "left the failing after": _seconds(score.left_after_s),
        "back after its end": _seconds(score.back_after_s),
        "tries per request": f"{score.attempts / max(1, score.requests):.3f}",
        "failed tries there": str(score.failed_at_failing),
        "streams spliced": str(score.splices),
        "spent": _money(score.cost_usd),
        "wasted": f"{_money(score.wasted_usd)}, {score.wasted_tokens} tokens",
        "dearest request": _money(score.dearest_usd),
        "over the ceiling": _over(score),
        "outside allowed places": _outside(score),
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures.items()
    )
    problems = "".join(f'<li class="bad">{escape(what)}</li>' for what in score.problems)
    scenario = played.scenario
    return (
        f'<section id="{escape(score.name)}">{_mark(score.passed)}<h2>{escape(scenario.title)}</h2>'
        f'<p class="about">{escape(scenario.about)}{f" ({escape(scenario.source)})" if scenario.source else ""}</p>'
        f"<dl>{cells}</dl>{f'<ul>{problems}</ul>' if problems else ''}{timeline(played)}</section>"
    )


def timeline(played: Played) -> str:
    """What failed when, requests by provider and outcome, failed tries, first tokens, breakers; over one axis of time."""
    length = played.scenario.length_s
    colours = _colours(played)
    lanes = _lanes(played)
    faults = [phase for phase in played.scenario.phases if phase.behaviour or phase.provider != "*"]
    tops = [24.0]
    for height in (_LANE_H * len(faults) + 8, _BARS_H + _GAP, _FAILED_H + _GAP, _LATENCY_H + _GAP):
        tops.append(tops[-1] + height)
    height = int(tops[-1]) + _LANE_H * len(lanes) + 24
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Time line of {escape(played.scenario.title)}">',
        _shade(played, length, height),
        _phases(faults, _known(played), length, tops[0]),
        _bars(played.lines, length, colours, tops[1]),
        _failures(played.lines, length, tops[2]),
        _latency(played.lines, length, tops[3]),
        _breakers(played, lanes, length, tops[4]),
        _axis(length, height),
        "</svg>",
    ]
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items()
    )
    legend += (
        f'<span><i style="background:#555;opacity:{_LATER}"></i>paler: after a failed try</span>'
        f'<span><i style="background:{_FAILED}"></i>not served</span>'
    )
    seen = {look.states[lane] for look in played.looks for lane in lanes if lane in look.states}
    states = "".join(
        f'<span><i style="background:{colour}"></i>{state.replace("_", " ")}</span>'
        for state, colour in _STATES.items()
        if state in seen
    )
    return (
        f'{"".join(parts)}<p class="legend">served by: {legend}</p><p class="legend">breakers: {states}</p>'
    )


def _colours(played: Played) -> dict[str, str]:
    """Who is hit is always of the first colour, the others follow by their share."""
    most = Counter(line.provider for line in played.lines if line.provider).most_common(len(_PALETTE))
    hit = played.scenario.hit.provider
    names = sorted((name for name, _ in most if name), key=lambda name: not fnmatchcase(name, hit))
    return dict(zip(names, _PALETTE, strict=False))


def _known(played: Played) -> list[str]:
    return sorted({lane.partition("/")[0] for look in played.looks for lane in look.states})


def _lanes(played: Played) -> list[str]:
    """Deployments that were asked, those that are hit first."""
    hit = played.scenario.hit
    asked = {entry.deployment for line in played.lines if line.record for entry in line.record.attempts}

    def struck(lane: str) -> bool:
        provider, _, model = lane.partition("/")
        return fnmatchcase(provider, hit.provider) and fnmatchcase(model, hit.model)

    return sorted(asked, key=lambda lane: (not struck(lane), lane))[:MAX_LANES]


def _x(at_s: float, length: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, at_s / length))


def _shade(played: Played, length: float, height: int) -> str:
    hit = played.scenario.hit
    left, right = _x(hit.from_s, length), _x(hit.to_s, length)
    return (
        f'<rect x="{left:.1f}" y="14" width="{right - left:.1f}" height="{height - 34}" fill="#fff3f0"/>'
        f'<text x="{left + 4:.1f}" y="12">the incident</text>'
    )


def _label(top: float, *lines: str) -> str:
    return "".join(
        f'<text x="4" y="{top + 12 + 15 * number:.0f}">{line}</text>' for number, line in enumerate(lines)
    )


def _phases(phases: list[Phase], known: list[str], length: float, top: float) -> str:
    """What the simulated providers were told to do."""
    out = []
    for row, phase in enumerate(phases):
        y = top + row * _LANE_H
        left, right = _x(phase.at_s, length), _x(phase.at_s + phase.for_s, length)
        what = phase.behaviour or f"+{phase.add_ms / 1000:g} s"
        share = f" {phase.share:.0%}" if phase.share < 1 and phase.share_to is None else ""
        struck = ", ".join(name for name in known if fnmatchcase(name, phase.provider)) or phase.provider
        told = f"{struck}/{phase.model} {what}{share}".replace("/* ", " ")
        if phase.share_to is not None:
            told += f" {phase.share:.0%} to {phase.share_to:.0%}"
        if phase.period_s is not None:
            told += ", on and off"
        out.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{_LANE_H - 3}" fill="#f3c1b5"/>'
            f'<text x="{left + 4:.1f}" y="{y + 9:.1f}" style="font-size:9.5px;fill:#6b2a1c">{escape(told)}</text>'
        )
    return _label(top, "what fails") + "".join(out) if phases else ""


def _bars(lines: list[Line], length: float, colours: dict[str, str], top: float) -> str:
    """Stacked: who is not served at the bottom, then each provider, paler where another try failed before."""
    buckets: list[Counter[tuple[str, bool]]] = [Counter() for _ in range(_BUCKETS)]
    for line in lines:
        later = line.record is not None and len(line.record.attempts) > 1
        buckets[_bucket(line, length)][((line.provider or "?") if line.ok else "", later and line.ok)] += 1
    most = max((sum(bucket.values()) for bucket in buckets), default=1) or 1
    width = (_WIDTH - _LEFT - _RIGHT) / _BUCKETS
    out = [_label(top, "requests", "by who served")]
    order = [("", False), *((name, later) for name in (*colours, "?") for later in (False, True))]
    for number, bucket in enumerate(buckets):
        y = top + _BARS_H
        for key in order:
            if not bucket[key]:
                continue
            tall = bucket[key] / most * _BARS_H
            y -= tall
            fill = colours.get(key[0], "#999") if key[0] else _FAILED
            pale = f' fill-opacity="{_LATER}"' if key[1] else ""
            out.append(
                f'<rect x="{_LEFT + number * width:.1f}" y="{y:.1f}" width="{width - 0.6:.1f}" height="{tall:.1f}" fill="{fill}"{pale}/>'
            )
    return "".join(out)


def _bucket(line: Line, length: float) -> int:
    return min(_BUCKETS - 1, int(line.at_s / length * _BUCKETS))


def _failures(lines: list[Line], length: float, top: float) -> str:
    """Tries that failed, whatever came of their requests."""
    buckets: Counter[int] = Counter()
    for line in lines:
        if line.record is not None:
            buckets[_bucket(line, length)] += sum(entry.outcome != SUCCESS for entry in line.record.attempts)
    most = max(buckets.values(), default=0)
    out = [_label(top, "failed tries", f"0 to {most}"), _rule(top + _FAILED_H)]
    width = (_WIDTH - _LEFT - _RIGHT) / _BUCKETS
    for number, count in buckets.items():
        tall = count / most * _FAILED_H if most else 0.0
        out.append(
            f'<rect x="{_LEFT + number * width:.1f}" y="{top + _FAILED_H - tall:.1f}" width="{width - 0.6:.1f}" height="{tall:.1f}" fill="#e08a7a"/>'
        )
    return "".join(out)


def _rule(y: float) -> str:
    return f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d5dae0"/>'


def _latency(lines: list[Line], length: float, top: float) -> str:
    seen = [(line.at_s, line.heard.first_s) for line in lines if line.ok and line.heard.first_s is not None]
    most = max((first for _, first in seen), default=1.0) or 1.0
    out = [_label(top, "first token", f"0 to {most:.1f} s"), _rule(top + _LATENCY_H)]
    for at, first in seen:
        y = top + _LATENCY_H - first / most * _LATENCY_H
        out.append(
            f'<circle cx="{_x(at, length):.1f}" cy="{y:.1f}" r="1.6" fill="#2b4a6f" fill-opacity=".45"/>'
        )
    return "".join(out)


def _breakers(played: Played, lanes: list[str], length: float, top: float) -> str:
    out = []
    for row, lane in enumerate(lanes):
        y = top + row * _LANE_H
        shown = lane if len(lane) <= 24 else f"{lane[:9]}…{lane[-14:]}"
        out.append(f'<text x="4" y="{y + 10}"><title>{escape(lane)}</title>{escape(shown)}</text>')
        for number, look in enumerate(played.looks):
            state = look.states.get(lane)
            if state is None or look.at_s > length:
                continue
            following = played.looks[number + 1].at_s if number + 1 < len(played.looks) else look.at_s
            left, right = _x(look.at_s, length), _x(following, length)
            fill = _STATES.get(state, "#bbb")
            out.append(
                f'<rect x="{left:.1f}" y="{y}" width="{right - left + 0.3:.1f}" height="{_LANE_H - 4}" fill="{fill}"/>'
            )
    return "".join(out)


def _axis(length: float, height: int) -> str:
    step = next(one for one in (10, 30, 60, 120, 300, 600, 1800, 3600, 86_400) if length / one <= 12)
    marks = range(0, int(length) + 1, step)
    return "".join(
        f'<text x="{_x(at, length):.1f}" y="{height - 4}" text-anchor="{"end" if at + step > length else "middle"}">{at // 60}:{at % 60:02d}</text>'
        for at in marks
    )


def _mark(passed: bool) -> str:
    return '<span class="mark ok">passed</span>' if passed else '<span class="mark bad">failed</span>'


def _brief(value: float | None) -> str:
    return "–" if value is None else f"{value * 1000:.0f} ms"


def _wasted(score: Score) -> str:
    return f"{score.wasted_tokens} tok, {score.wasted_share:.1%}" if score.wasted_tokens else "0"


def _over(score: Score) -> str:
    return "no ceiling" if score.ceiling_usd is None else f"{score.ceilings_exceeded} of ${score.ceiling_usd}"


def _outside(score: Score) -> str:
    return "–" if score.allowed is None else str(score.outside_allowed)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _money(usd: str) -> str:
    return usd if usd == "unknown" else f"${usd}"
