"""A model service to start from: fill in `load` and `predict`, and capture is built in.

Needs the extra `service`, which installs Starlette and uvicorn.
"""

from weighbridge.service.app import create_app
from weighbridge.service.handler import Answer, BadRequestError, ModelHandler
from weighbridge.service.settings import Settings, SettingsError

__all__ = [
    "Answer",
    "BadRequestError",
    "ModelHandler",
    "Settings",
    "SettingsError",
    "create_app",
]
