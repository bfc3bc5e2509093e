"""Reads a run's event files with TensorBoard's own reader and prints as JSON what is in them.

    python read_events.py FOLDER
"""

import io
import json
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "tensors": 0})
events.Reload()
tags = events.Tags()


def picture(event):
    decoded = Image.open(io.BytesIO(event.encoded_image_string))
    decoded.load()
    colours = len(decoded.getcolors(1 << 24))
    return {"step": event.step, "size": [event.width, event.height], "decoded": list(decoded.size), "colours": colours}


def text(event):
    return {"step": event.step, "text": tensor_util.make_ndarray(event.tensor_proto)[0].decode()}


print(
    json.dumps(
        {
            "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
            "images": {tag: [picture(e) for e in events.Images(tag)] for tag in tags["images"]},
            "texts": {tag: [text(e) for e in events.Tensors(tag)] for tag in tags["tensors"]},
        }
    )
)
