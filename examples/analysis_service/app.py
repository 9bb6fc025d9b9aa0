"""The service: ``uvicorn --factory analysis_service.app:create_app``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request

import loopwatch

from .documents import Document, Submission, request_id
from .settings import Settings
from .workflow import Workflow

loopwatch.install()


def create_app() -> FastAPI:
    """Build the service with the settings of the environment."""
    workflow = Workflow(Settings.from_environ())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(workflow.serve())
        yield
        await workflow.close()
        worker.cancel()
        await asyncio.wait([worker])

    app = FastAPI(title="Document analysis", lifespan=lifespan)

    @app.post("/documents", status_code=202)
    async def submit(submission: Submission, request: Request) -> dict[str, str]:
        document = Document(submission)
        request_id.set(request.headers.get("x-request-id", document.id))
        await workflow.accept(document)
        return {"id": document.id, "status": "Processing"}

    @app.get("/documents/{document_id}")
    async def status(document_id: str) -> dict[str, str]:
        found = await asyncio.to_thread(workflow.store.status, document_id)
        if found is None:
            raise HTTPException(404, "no such document")
        return {"id": document_id, "status": found}

    @app.get("/documents")
    async def totals() -> dict[str, int]:
        return await asyncio.to_thread(workflow.store.totals)

    return app
