"""`python -m tests.pipeline.ill_worker`: a worker whose engine is as the file in MOODSTREAM_ILLNESS says.

`throws` and `hangs`: whatever it is given; `nan`: at texts of 40 tokens and more. Well without the file.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import faust
import numpy as np

from inference_worker import artifact
from inference_worker.agent import create_app
from inference_worker.settings import Settings
from ingest.contract import Post


def main() -> None:
    settings, illness = Settings.from_env(), Path(os.environ["MOODSTREAM_ILLNESS"])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    predictor = artifact.load(settings.model, engine=settings.engine)
    encode_text = predictor.engine.encode_text

    def encode_ill(input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        symptom = illness.read_text() if illness.exists() else ""
        if symptom == "throws":
            raise RuntimeError("the device is lost")
        if symptom == "hangs":
            threading.Event().wait()
        features, logits = encode_text(input_ids, attention_mask)
        if symptom == "nan":
            logits[attention_mask.sum(axis=1) >= 40] = np.nan
        return features, logits

    predictor.engine.encode_text = encode_ill  # type: ignore[method-assign]
    now = datetime.now(UTC)
    predictor.proofs["text"] = predictor.prepare(Post(id="t:1", source="t", created_at=now, ingested_at=now, text="ok"))
    app = create_app(settings, predictor)
    faust.Worker(app, loglevel="INFO", redirect_stdouts=False, override_logging=False).execute_from_commandline()


if __name__ == "__main__":
    main()
