"""The API's documentation at /docs and /redoc, from files of the app's own origin.

FastAPI's own pages take theirs from other sites and hold a script inline, which the app's
Content-Security-Policy forbids. Swagger UI and ReDoc come from the package ``fastapi-offline``, of
which no code is used.
"""

from html import escape
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from .headers import HEADERS

# Addresses are relative, so that they also hold below a proxy's prefix.
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/colours.css">
<main id="docs"></main>
<script src="docs/{bundle}"></script>
<script src="docs/start.js"></script>
</html>
"""
SWAGGER_UI = PAGE.replace("{bundle}", "swagger-ui-bundle.js")
REDOC = PAGE.replace("{bundle}", "redoc.standalone.js")
# The colours are those of app/page/style.css. Swagger UI has a dark mode, to be switched on; ReDoc
# takes a theme, from which it computes the rest of its colours when it starts.
COLOURS = """:root {
  color-scheme: light dark;
  --page: light-dark(#f7f7fa, #121118);
  --card: light-dark(#fff, #1b1a23);
  --text: light-dark(#1d1b26, #eceaf3);
  --accent: light-dark(#5a3dcb, #b3a2ff);
  --good: light-dark(#136b40, #6fdca6);
  --bad: light-dark(#b3232f, #ff9a9c);
}
body { margin: 0; }
:root, :root.dark-mode, body, :root.dark-mode .swagger-ui { background: var(--page); color: var(--text); }
html:root .swagger-ui .scheme-container { background: var(--card); box-shadow: none; }
html:root .swagger-ui :is(a, .scheme-container .btn.authorize) {
  color: var(--accent); border-color: var(--accent);
}
html:root .swagger-ui .scheme-container .btn.authorize svg { fill: var(--accent); }
.redoc-wrap :is(h5, h5 *) { color: inherit !important; }
.redoc-wrap h5 ~ * svg polygon { fill: currentcolor; }
.redoc-wrap .react-tabs__tab--selected { background: #34323f !important; }
"""
START = """const dark = matchMedia("(prefers-color-scheme: dark)");
const place = document.getElementById("docs");

function startSwaggerUI() {
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  follow();
  dark.addEventListener("change", follow);
  SwaggerUIBundle({
    url: "openapi.json",
    domNode: place,
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  });
}

function startReDoc() {
  const [page, card, text, accent, good, bad] = ["page", "card", "text", "accent", "good", "bad"].map(
    (name) => {
      place.style.color = `var(--${name})`;
      return getComputedStyle(place).color;
    });
  place.style.color = "";
  const theme = {
    colors: {
      primary: { main: accent },
      success: { main: good },
      error: { main: bad },
      text: { primary: text, secondary: text },
      // These are on the panel to the right, which is always dark.
      responses: { success: { tabTextColor: "#6fdca6" }, error: { tabTextColor: "#ff9a9c" } },
    },
    schema: {
      nestedBackground: card, linesColor: accent, typeNameColor: text, typeTitleColor: text,
    },
    sidebar: { backgroundColor: card, textColor: text, activeTextColor: accent },
    rightPanel: { backgroundColor: "#1b1a23" },
    codeBlock: { backgroundColor: "#121118" },
  };
  Redoc.init("openapi.json", { theme }, place);
  dark.addEventListener("change", () => location.reload());
}

if (window.Redoc) startReDoc();
else startSwaggerUI();
"""
FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "redoc.standalone.js")
OURS = ("start.js", "colours.css")
PATHS = {"/docs", "/redoc", "/openapi.json", *(f"/docs/{name}" for name in (*OURS, *FILES))}
"""What needs no credentials: it says what the app can do, which its source does too."""

# Both set styles from their scripts, and ReDoc searches in a worker.
CSP = HEADERS["content-security-policy"].replace("style-src", "style-src 'unsafe-inline'")
CSP += "; worker-src blob:"

router = APIRouter(include_in_schema=False)
files = StaticFiles(packages=[("fastapi_offline", "static")])


def _page(template: str, request: Request) -> HTMLResponse:
    page = template.replace("{title}", escape(request.app.title))
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Show Swagger UI."""
    return _page(SWAGGER_UI, request)


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    """Show ReDoc."""
    return _page(REDOC, request)


@router.get("/docs/start.js")
async def start() -> Response:
    """Start the one whose script is there."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/colours.css")
async def colours() -> Response:
    """Give both the page's colours."""
    return Response(COLOURS, media_type="text/css")


@router.get("/docs/{name}")
async def file(name: Literal[FILES], request: Request) -> Response:  # type: ignore[valid-type]
    """Serve one of the files that the pages use."""
    response = await files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response
