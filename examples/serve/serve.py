"""A trained model behind HTTP, on Starlette and fastgru.runtime: no torch.

MODEL=runs/reviews uvicorn --app-dir examples/serve serve:app
curl localhost:8000/predict -d '{"inputs": ["a warm, funny and moving film"]}'
"""

import os
from dataclasses import asdict
from typing import Any

from fastgru import runtime
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

model = runtime.load(os.environ["MODEL"])  # any number of threads may ask it


def answers(inputs: Any) -> list[Any]:
    if not isinstance(inputs, list):
        raise ValueError('expected {"inputs": [...]}, a list of texts or of sequences [T, I]')
    return [
        [asdict(each) for each in found] if isinstance(found, list) else asdict(found)
        for found in model.predict(inputs)
    ]


async def predict(request: Request) -> JSONResponse:
    try:
        body = await request.json()
        return JSONResponse(await run_in_threadpool(answers, body.get("inputs") if isinstance(body, dict) else None))
    except (ValueError, TypeError) as error:  # what was sent cannot be used, and why
        return JSONResponse({"error": str(error)}, status_code=422)


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"model": type(model).__name__})


app = Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/health", health)])
