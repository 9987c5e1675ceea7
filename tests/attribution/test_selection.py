"""Which kernel, and which strength? That of machines made without each example, and the choice says why."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.core.errors import NotPositiveError, OptionError
from leftout.diagnostics.model_selection import STRENGTHS, choose_kernel, choose_strength
from leftout.kernels.pairwise.label_aware import LabelAware
from problems.label_kernels import LEARNED, REGRESSED, N, points, worst


class TestStrength:
    def test_at_a_training_time_each_strength_is_judged_by_its_own_spectrum(self):
        rows, labels = points(4, 30)
        kernel = LabelAware(lo.kernels.ReLU(1), "fjlt-v1")
        rule = lo.GradientFlow(1.0)
        found = choose_strength(kernel, (rows, labels), rule=rule, at=3.0)
        assert any(one.skipped for one in found.candidates), "or the test says nothing"
        assert len(found.with_losses) >= 3
        for one in found.with_losses:
            off = lo.out_of_sample(lo.fit(one.kernel, (rows, labels), rule=rule), 3.0)
            targets = lo.fit(one.kernel, (rows, labels), rule=rule).train.targets
            assert worst(one.losses, (off - targets).square().sum(1) / 2) < LEARNED

    def choice(self, estimator="kr-v1", **more):
        rows, labels = points(5, 30)
        kernel = LabelAware(lo.kernels.ReLU(1), estimator)
        return choose_strength(kernel, (rows, labels), rule=lo.Ridge(0.1), **more), (rows, labels)

    def test_losses_are_those_of_machines_taught_without(self):
        found, data = self.choice(strengths=(0.0, 0.03, 0.3))
        for one in found.with_losses:
            fitted = lo.fit(one.kernel, data, rule=lo.Ridge(0.1))
            off = (lo.out_of_sample(fitted) - fitted.train.targets).square().sum(1) / 2
            assert worst(one.losses, off) < LEARNED
            assert one.accuracy == fitted.train.accuracy(lo.out_of_sample(fitted))
            values = np.linalg.eigvalsh(fitted.gram.numpy())
            assert one.smallest == pytest.approx(values[0], abs=1e-12 * values[-1])
            sizes = np.abs(values + 0.1)
            assert one.condition == pytest.approx(sizes.max() / sizes.min(), rel=1e-9)
        assert found.best.loss == min(one.loss for one in found.with_losses)
        assert [one.loss for one in found.with_losses] == sorted(one.loss for one in found.with_losses)

    def test_one_that_is_singular_is_skipped_and_named(self):
        rows, labels = points(5, 30)
        kernel = LabelAware(lo.kernels.ReLU(1), "kr-v1")
        taught = lo.fit(lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", 1.0), (rows, labels))
        # Strength moves eigenvalues steadily: at a generalised eigenvalue the matrix is singular.
        again = taught.kernel.refit_labels(torch.arange(1, 30))
        base, higher = again.at_strength(0.0).gram.numpy(), again.gram.numpy()
        higher = higher - base
        values = np.linalg.eigvals(np.linalg.solve(base + 0.1 * np.eye(29), higher))
        lowest = values.real.min()
        assert lowest < 0, "or the test says nothing"
        found = choose_strength(kernel, (rows, labels), rule=lo.Ridge(0.1), strengths=(0.0, -1 / lowest))
        assert found.kernel.strength == 0
        assert "singular to half of the digits" in found.candidates[1].skipped
        assert "without example" in found.candidates[1].skipped

    def test_one_that_no_fit_of_all_examples_can_have_is_skipped_too(self):
        """It has solutions without each example, but would be of no use."""
        rows, labels = points(5, 30)
        taught = lo.fit(LabelAware(lo.kernels.ReLU(1), "kr-v1", 1.0), (rows, labels)).kernel
        base = taught.at_strength(0.0).gram.numpy()
        values = np.linalg.eigvals(np.linalg.solve(base + 0.1 * np.eye(30), taught.gram.numpy() - base))
        singular = -1 / values.real.min()
        assert singular > 0, "or the test says nothing"
        kernel = LabelAware(lo.kernels.ReLU(1), "kr-v1")
        asked = LabelAware(lo.kernels.ReLU(1), "kr-v1", singular)
        fitted = lo.fit(asked, (rows, labels), rule=lo.Ridge(0.1))
        with pytest.raises(NotPositiveError, match="singular to half"):
            fitted.predict(torch.tensor(rows))
        found = choose_strength(kernel, (rows, labels), rule=lo.Ridge(0.1), strengths=(0.0, singular))
        assert found.candidates[1].skipped.startswith("with every example: `gram`")

    def test_strength_0_is_the_label_blind_kernel_however_near_to_singular(self):
        rows, labels = points(5, 20)
        rows[7] = rows[3] + 1e-10
        labels[7] = labels[3]
        plain = choose_kernel([lo.kernels.ReLU(1)], (rows, labels), rule=lo.Ridge(0.0)).best
        found = choose_strength(
            LabelAware(lo.kernels.ReLU(1), "kr-v1"), (rows, labels), rule=lo.Ridge(0.0), strengths=(0.0,)
        )
        assert found.best.condition > 1e8, "or the test says nothing"
        # Losses of two solves differ by cond·eps.
        assert worst(found.best.losses, plain.losses) < 100 * found.best.condition * 2.3e-16
        fitted = lo.fit(found.kernel, (rows, labels), rule=lo.Ridge(0.0))
        assert not fitted.depends_on_labels

    def test_a_class_of_one_example_leaves_the_label_blind_kernel(self):
        rows, _ = points(5, 12)
        found = choose_strength(
            LabelAware(lo.kernels.ReLU(1), "kr-v1"),
            (rows, (np.arange(12) == 4).astype(int)),
            strengths=(0.0, 0.1),
        )
        assert found.kernel.strength == 0
        assert "without example '4': `labels` must hold two classes" in found.candidates[1].skipped

    @pytest.mark.usefixtures("as_users_run_it")
    def test_what_is_no_list_is_said(self):
        with pytest.raises(OptionError, match="`strengths` must be numbers"):
            self.choice(strengths=0.1)
        with pytest.raises(OptionError, match="`kernels` must be kernels in a list"):
            choose_kernel(lo.kernels.ReLU(1), points(0, N))

    def test_no_strength_is_an_error(self):
        with pytest.raises(OptionError, match="`strengths` must hold one that can be fitted; got none"):
            self.choice(strengths=())
        with pytest.raises(OptionError, match="`strengths` must be"):
            self.choice(strengths=(-1.0,))

    def test_labels_that_say_nothing_are_not_believed(self):
        """With labels by chance, the largest strength is worse than none: no test data needed."""
        rows, _ = points(6, 40)
        labels = np.random.default_rng(0).permutation(np.arange(40) % 2)
        found = choose_strength(
            LabelAware(lo.kernels.ReLU(1), "fjlt-v1"),
            (rows, labels),
            rule=lo.Ridge(0.1),
            strengths=(0.0, 1.0),
        )
        assert found.kernel.strength == 0

    def test_all_strengths_are_tried_if_none_are_named(self):
        assert {one.kernel.strength for one in self.choice()[0].candidates} == set(STRENGTHS)


class TestKernel:
    def test_the_best_by_leaving_one_out_is_taken(self):
        rows, labels = points(7, 30)
        kernels = {
            "relu": lo.kernels.ReLU(1),
            "erf": lo.kernels.Erf(2),
            "aware": LabelAware(lo.kernels.ReLU(1), "kr-v1", None),
        }
        found = choose_kernel(kernels, (rows, labels), rule=lo.Ridge(0.1))
        losses = {}
        for name, kernel in kernels.items():
            if name == "aware":
                kernel = choose_strength(kernel, (rows, labels), rule=lo.Ridge(0.1)).kernel
            fitted = lo.fit(kernel, (rows, labels), rule=lo.Ridge(0.1))
            off = (lo.out_of_sample(fitted) - fitted.train.targets).square().sum(1) / 2
            losses[name] = off
            (ours,) = (one for one in found.candidates if one.name.split(",")[0] == name)
            assert worst(ours.losses, off) < LEARNED
        order = sorted(losses, key=lambda name: float(losses[name].mean()))
        assert [one.name.split(",")[0] for one in found.candidates] == order
        apart = (losses[order[1]] - losses[order[0]]).numpy()
        behind, error = found.lead(found.candidates[1])
        assert behind == pytest.approx(apart.mean())
        assert error == pytest.approx(apart.std(ddof=1) / np.sqrt(30))

    def test_kernels_of_one_name_are_not_confused(self):
        rows, labels = points(7, 12)
        grams = [lo.kernels.ReLU(depth).block(*2 * [torch.tensor(rows)]) for depth in (1, 2)]
        data = (np.arange(12.0), labels)
        kernels = [lo.kernels.Precomputed(gram) for gram in grams]
        with pytest.raises(OptionError, match=r"2 are called Precomputed.* Pass a mapping"):
            choose_kernel(kernels, data)
        named = dict(zip("ab", kernels, strict=True))
        assert len(choose_kernel(named, data).with_losses) == 2

    @pytest.mark.usefixtures("as_users_run_it")
    def test_one_time_is_judged(self):
        rows, labels = points(7, 12)
        flow = lo.GradientFlow(1.0, 0.01)
        with pytest.raises(OptionError, match="`at` must be a time"):
            choose_kernel([lo.kernels.ReLU(1)], (rows, labels), rule=flow, at=[1, 5])
        found = choose_kernel([lo.kernels.ReLU(1)], (rows, labels), rule=flow, at=5)
        fitted = lo.fit(lo.kernels.ReLU(1), (rows, labels), rule=flow)
        off = (lo.out_of_sample(fitted, 5) - fitted.train.targets).square().sum(1) / 2
        assert worst(found.best.losses, off) < REGRESSED

    def test_labels_that_do_not_help_are_no_candidate_beside_their_base(self):
        rows, _ = points(6, 40)
        labels = np.random.default_rng(0).permutation(np.arange(40) % 2)
        base = lo.kernels.ReLU(1)
        aware = LabelAware(base, "kr-v1", None)
        found = choose_kernel({"plain": base, "aware": aware}, (rows, labels), rule=lo.Ridge(0.1))
        assert found.best.kernel == base
        assert found.candidates[1].skipped.startswith("Labels do not help: strength 0 predicts best")
        assert "that is plain" in found.candidates[1].skipped
        with pytest.raises(OptionError, match="aware, strength 0 has none"):
            found.lead(found.candidates[1])
        alone = choose_kernel({"aware": aware}, (rows, labels), rule=lo.Ridge(0.1))
        assert (alone.best.name, alone.kernel) == ("aware, strength 0", base)

    def test_kernels_that_hold_tensors_are_compared_as_what_they_are(self):
        @dataclass(frozen=True)
        class Linear(lo.kernels.Kernel):
            weights: torch.Tensor

            def block(self, queries, inputs):
                return (queries * self.weights) @ inputs.T

            def diagonal(self, inputs):
                return (inputs.square() * self.weights).sum(1)

            def check(self, name, inputs):
                del name, inputs

            @property
            def record(self):
                return {"name": "linear"}

        rows, _ = points(6, 40)
        labels = np.random.default_rng(0).permutation(np.arange(40) % 2)
        one, other = (Linear(torch.full((6,), by, dtype=torch.float64)) for by in (1.0, 2.0))
        kernels = {"a": one, "b": other, "aware": LabelAware(one, "kr-v1", None)}
        found = choose_kernel(kernels, (rows, labels), rule=lo.Ridge(0.1))
        aware = next(each for each in found.candidates if each.name.startswith("aware"))
        if aware.kernel is one:
            assert aware.skipped.endswith("that is a.")
        assert len(found.candidates) == 3

    def test_any_collection_of_kernels_or_strengths_will_do(self):
        rows, labels = points(7, 12)
        kernels = {1: lo.kernels.ReLU(1), 2: lo.kernels.ReLU(2)}
        assert len(choose_kernel(kernels.values(), (rows, labels)).with_losses) == 2
        found = choose_strength(
            LabelAware(lo.kernels.ReLU(1), "kr-v1"), (rows, labels), strengths=np.array([0.0, 0.1])
        )
        assert len(found.with_losses) == 2

    def test_one_that_cannot_be_fitted_is_skipped_with_its_reason(self):
        rows, labels = points(7, 12)
        rows = np.concatenate([rows, rows[:1]])  # singular without a ridge
        labels = np.append(labels, 1 - labels[0])
        kernels = {"relu": lo.kernels.ReLU(1), "aware": LabelAware(lo.kernels.ReLU(1), "kr-v2")}
        with pytest.raises(OptionError, match=r"relu: .*not positive definite"):
            choose_kernel(kernels, (rows, labels), rule=lo.Ridge(0.0))

    def test_one_that_labels_cannot_teach_or_that_diverges_is_skipped_too(self):
        rows, _ = points(7, 12)
        numbers = (rows, np.linspace(0, 1, 12))
        kernels = {"relu": lo.kernels.ReLU(1), "aware": LabelAware(lo.kernels.ReLU(1), "kr-v1", None)}
        found = choose_kernel(kernels, numbers)
        assert found.best.name == "relu"
        assert "must have classes" in found.candidates[1].skipped
        assert "strength=None" in found.candidates[1].skipped, "in the words of what was asked"
        top = lo.fit(lo.kernels.ReLU(1), numbers).largest
        steep = {"relu": lo.kernels.ReLU(1), "high": lo.kernels.ReLU(4, weight_variance=4.0)}
        found = choose_kernel(steep, numbers, rule=lo.GradientDescent(1.9 / top), at=20)
        assert found.best.name == "relu"
        assert found.candidates[1].skipped

    @pytest.mark.usefixtures("as_users_run_it")
    def test_it_takes_kernels(self):
        with pytest.raises(OptionError, match="`kernels` must be kernels"):
            choose_kernel({"a": 3}, points(7, 12))
