"""A tanh network and its linearisation, trained by the definition in plain numpy: both are stepped."""

import numpy as np
from scipy.integrate import solve_ivp


class Perceptron:
    """f(x) = V tanh(W x + b) + c, its weights one vector (W, b, V, c)."""

    def __init__(self, d, width, k):
        self.shapes = ((width, d), (width,), (k, width), (k,))

    def parts(self, w):
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])[:-1]
        return [one.reshape(s) for one, s in zip(np.split(w, ends), self.shapes, strict=True)]

    def outputs(self, w, x):
        into, bias, out, last = self.parts(w)
        return np.tanh(x @ into.T + bias) @ out.T + last

    def jacobian(self, w, x):
        """Rows (x, output), the outputs of an input side by side."""
        into, bias, out, _ = self.parts(w)
        hidden = np.tanh(x @ into.T + bias)
        rows = []
        for point, h in zip(x, hidden, strict=True):
            for o in range(len(out)):
                back = out[o] * (1 - h**2)
                readout, shift = np.zeros_like(out), np.zeros(len(out))
                readout[o], shift[o] = h, 1.0
                rows.append(np.concatenate([np.outer(back, point).ravel(), back, readout.ravel(), shift]))
        return np.array(rows)


def descended(net, w, x, y, *, rate, ridge, steps):
    """Weights of the network, and of its linearisation, after 0, 1, … steps on ½ Σ + ½ λ ‖w − w_0‖²."""
    start, rows = net.outputs(w, x).ravel(), net.jacobian(w, x)
    network, linear = [w], [w]
    for _ in range(steps):
        at = network[-1]
        error = (net.outputs(at, x) - y).ravel()
        network.append(at - rate * (net.jacobian(at, x).T @ error + ridge * (at - w)))
        moved = linear[-1] - w
        error = start + rows @ moved - y.ravel()
        linear.append(linear[-1] - rate * (rows.T @ error + ridge * moved))
    return network, linear


def flowed(net, w, x, y, *, ridge, times):
    """The same under gradient flow, at increasing times."""
    start, rows = net.outputs(w, x).ravel(), net.jacobian(w, x)

    def network(_, at):
        error = (net.outputs(at, x) - y).ravel()
        return -(net.jacobian(at, x).T @ error + ridge * (at - w))

    def linear(_, at):
        error = start + rows @ (at - w) - y.ravel()
        return -(rows.T @ error + ridge * (at - w))

    return [
        solve_ivp(slope, (0, times[-1]), w, t_eval=times, rtol=1e-11, atol=1e-12).y.T
        for slope in (network, linear)
    ]


def compared(net, w, network, linear, x, query):
    """Gaps at queries and training points, how far the linear one moved, changes of weights and kernel."""

    def side(points):
        start = net.outputs(w, points)
        said = (net.jacobian(w, points) @ (linear - w)).reshape(start.shape)
        return rms(net.outputs(network, points) - start - said), rms(said)

    before, now = net.jacobian(w, x), net.jacobian(network, x)
    kernel = now @ now.T - before @ before.T
    return {
        "gap": side(query)[0],
        "gap_train": side(x)[0],
        "moved": side(query)[1],
        "moved_train": side(x)[1],
        "weights": np.linalg.norm(network - w) / np.linalg.norm(w),
        "kernel": np.linalg.norm(kernel) / np.linalg.norm(before @ before.T),
    }


def rms(values):
    return np.sqrt(np.mean(values**2))


def learned_change(before, now, floor):
    """‖M^(-1/2) (now − before) M^(-1/2)‖ / ‖M^(-1/2) before M^(-1/2)‖, M = before + floor."""
    # tr(M⁻¹ A M⁻¹ A) is the squared norm, with no root of a matrix.
    inverse = np.linalg.inv(before + floor * np.eye(len(before)))
    change = inverse @ (now - before)
    return np.sqrt(np.trace(change @ change) / np.trace(inverse @ before @ inverse @ before))
