"""The web application: upload a photograph, and see its score, what raised and lowered it, and where."""

from memviz.app.config import AppConfig
from memviz.errors import AppError

try:
    from memviz.app.server import create_app, serve
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "pydantic", "starlette", "multipart", "python_multipart", "uvicorn"):
        raise
    raise AppError("The web application needs FastAPI and uvicorn: pip install 'memviz[app]'.") from error

__all__ = ["AppConfig", "create_app", "serve"]
