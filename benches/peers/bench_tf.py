"""TensorFlow's side of bench.py: a worker (see bench_worker.py) for the network `glasses`.

tf.nn under tf.function, without XLA, NHWC, no Keras between: what Keras would add to a step is not measured.
"""

import tensorflow as tf

from bench_worker import batches, pictures, serve

LEARNING_RATE = 1e-4
DROPOUT = 0.1
WINDOWS = ((5, 16), (3, 16), (3, 32))
DENSE = 128


def he(*shape):
    fan_in = 1
    for size in shape[:-1]:
        fan_in *= size
    return tf.Variable(tf.random.normal(shape, stddev=(2.0 / fan_in) ** 0.5)), tf.Variable(tf.zeros(shape[-1:]))


class Glasses:
    def __init__(self, shape, classes):
        h, w, c = shape
        self.convs, self.dense = [], []
        for window, filters in WINDOWS:
            self.convs.append(he(window, window, c, filters))
            c = filters
        inputs = (h // 2) * (w // 2) * c
        for size in (DENSE, DENSE, classes):
            self.dense.append(he(inputs, size))
            inputs = size
        self.variables = [tensor for pair in self.convs + self.dense for tensor in pair]

    def __call__(self, x, training):
        """Logits of standardised pictures."""
        for weight, bias in self.convs:
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, weight, 1, "SAME"), bias))
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.reshape(x, (x.shape[0], -1))
        for weight, bias in self.dense[:-1]:
            x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, weight), bias))
            x = tf.nn.dropout(x, DROPOUT) if training else x
        weight, bias = self.dense[-1]
        return tf.nn.bias_add(tf.matmul(x, weight), bias)


def standardise(images):
    """Pictures u8 [n, h, w, c] as f32, every channel of every picture standardised on its own.

    On rows of w * c numbers, as sums over an innermost axis of 3 are slow: 0.8 ms for 16 pictures of 80x80x3, under a hundredth
    of a step, where tf.nn.moments took 11 and three other ways 6 to 7.
    """
    n, h, w, c = images.shape
    rows = tf.reshape(tf.cast(images, tf.float32), (n, h, w * c))

    def channel_means(values):
        return tf.reduce_mean(tf.reshape(tf.reduce_mean(values, 1), (n, w, c)), 1)

    def along_rows(values):
        return tf.reshape(tf.tile(values, (1, w)), (n, 1, w * c))

    mean = channel_means(rows)
    scale = tf.math.rsqrt(channel_means(rows * rows) - mean * mean + 1e-12)
    return tf.reshape(rows * along_rows(scale) - along_rows(mean * scale), images.shape)


def network(work):
    if work["model"] != "glasses":
        raise ValueError(f"only glasses is written in TensorFlow, not {work['model']}")
    tf.random.set_seed(1)
    model = Glasses(work["input"], work["classes"])
    return model, {"parameters": sum(int(tf.size(v)) for v in model.variables)}


def training_step(work):
    """Gather the rows, standardise, forward with drop-out, loss, backward, plain SGD, the loss read back."""
    model, notes = network(work)
    images, labels = map(tf.constant, pictures(work))
    rows = batches(work["batch"])

    @tf.function
    def train(index):
        inputs = standardise(tf.gather(images, index))
        with tf.GradientTape() as tape:
            logits = model(inputs, True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, index), logits))
        for variable, gradient in zip(model.variables, tape.gradient(loss, model.variables)):
            # One pass over the weights, as Keras' SGD does it.
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=LEARNING_RATE, delta=gradient)
        return loss

    return lambda: train(tf.constant(next(rows))).numpy(), notes


def inference(work):
    """Standardise, forward, softmax; the pictures lie in memory as bytes."""
    model, notes = network(work)
    images = tf.constant(pictures(work)[0][: work["batch"]])

    @tf.function
    def predict(inputs):
        return tf.nn.softmax(model(standardise(inputs), False))

    return lambda: predict(images).numpy(), notes


def prepare(work):
    return {"step": training_step, "infer": inference}[work["kind"]](work)


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    serve(prepare, {"TensorFlow": tf.__version__})
