"""A rank of TensorFlow's MultiWorkerMirroredStrategy (ring), on the network `glasses`: see ddp_rank.py and, for how to start one, ddp_torch.py.

The step is that of bench_tf.py, under the strategy. Ranks listen on MASTER_PORT, MASTER_PORT + 1, … of MASTER_ADDR, all on one machine.
A work may carry {"bytes_per_pack": N}: gradients travel in packs of so many bytes.
"""

import json
import os

from ddp_rank import MODEL, Place, check, settle

if __name__ == "__main__":
    settle()
    place = Place()
    workers = [f"{place.address}:{place.port + rank}" for rank in range(place.size)]
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": place.rank}})

import tensorflow as tf

from bench_tf import LEARNING_RATE, network, standardise
from bench_worker import batches, pictures, serve

COLLECTIVE = tf.distribute.experimental.CommunicationOptions
RING = tf.distribute.experimental.CommunicationImplementation.RING


def training_step(work, strategy):
    """Gather this rank's rows, standardise, forward with drop-out, loss, backward, exchange, plain SGD, the loss read back."""
    work = MODEL | work
    with strategy.scope():
        model, notes = network(work)
    images, labels = map(tf.constant, pictures(work))
    rows = batches(work["batch"])
    options = COLLECTIVE(bytes_per_pack=work.get("bytes_per_pack", 0), implementation=RING)

    def replica(index):
        inputs = standardise(tf.gather(images, index))
        with tf.GradientTape() as tape:
            logits = model(inputs, True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, index), logits))
        gradients = tape.gradient(loss, model.variables)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients, options)
        for variable, gradient in zip(model.variables, gradients):
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=LEARNING_RATE, delta=gradient)
        return loss

    @tf.function
    def train(index):
        return strategy.run(replica, args=(index,))

    return lambda: train(tf.constant(next(rows))).numpy(), check(notes["parameters"])


def main():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=COLLECTIVE(implementation=RING))
    size = strategy.num_replicas_in_sync
    serve(lambda work: training_step(work, strategy), {"TensorFlow MultiWorkerMirroredStrategy": f"{tf.__version__}, ring, {size} ranks"})


if __name__ == "__main__":
    main()
