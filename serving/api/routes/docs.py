"""`/docs`: Swagger UI over the OpenAPI document, with its files from an installed package instead of a CDN."""

from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

_ASSETS = {"/docs/ui.js": ("swagger-ui-bundle.js", "text/javascript"), "/docs/ui.css": ("swagger-ui.css", "text/css")}


def add_docs_routes(app: FastAPI) -> None:
    """Add /docs and the script and style it loads to `app`."""
    static = files("fastapi_offline") / "static"
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="The Usual: HTTP API",
        swagger_js_url="/docs/ui.js",
        swagger_css_url="/docs/ui.css",
        swagger_favicon_url="data:,",
    )

    @app.get("/docs", include_in_schema=False)
    async def docs(_: Request) -> Response:
        return Response(page.body, media_type="text/html")

    @app.get("/docs/ui.js", include_in_schema=False)
    @app.get("/docs/ui.css", include_in_schema=False)
    async def asset(request: Request) -> Response:
        name, media_type = _ASSETS[request.url.path]
        return Response((static / name).read_bytes(), media_type=media_type)
