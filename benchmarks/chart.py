"""Draw a table of costs as a bar chart."""

from collections.abc import Mapping
from pathlib import Path

GREY, ORANGE, BLUE = "#9aa4b2", "#d98e48", "#3b7dd8"
LABELS = 185  # pixels, left of the bars


def draw(
    title: str, table: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], path: Path
) -> None:
    """Write an SVG with one group of bars per row, and one colour per column."""
    top = max(max(row.values()) for row in table.values())
    elements: list[str] = []
    y = 34
    for label, row in table.items():
        elements.append(f'<text x="10" y="{y + 11}" font-weight="bold">{label}</text>')
        for name, cost in row.items():
            width = max(330 * cost / top, 1)
            text = f"{name} {cost:.0f}" if cost >= 100 else f"{name} {cost:.1f}"
            elements.append(
                f'<rect x="{LABELS}" y="{y}" width="{width:.0f}" height="14" '
                f'fill="{colours[name]}"/>'
                f'<text x="{LABELS + 6 + width:.0f}" y="{y + 11}">{text}</text>'
            )
            y += 18
        y += 14
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {y}" width="600" height="{y}" '
        f'font-family="system-ui, sans-serif" font-size="12"><rect width="600" height="{y}" '
        f'fill="#fff"/><text x="10" y="20">{title}</text>{"".join(elements)}</svg>\n',
        "utf-8",
    )
