"""Factor, inverse and spectrum of a Gram matrix: each is made when first asked for, and kept.

A matrix that does not fit the memory is inverted in tiles (`solvers.tiled`), and has no spectrum.
"""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import NotPositiveError, OptionError
from leftout.core.fingerprint import fingerprint
from leftout.core.progress import spinner
from leftout.data.examples import Examples
from leftout.data.identical import identical_inputs
from leftout.dynamics.triangle_file import TriangleFile
from leftout.kernels.evaluated_matrix import EvaluatedMatrix
from leftout.solvers.cholesky import CholeskyFactor, factor_cholesky
from leftout.solvers.factor import Factor
from leftout.solvers.features import FeatureDirections, FeatureFactor, factor_features
from leftout.solvers.indefinite import IndefiniteFactor, factor_indefinite
from leftout.solvers.kept_matrix import as_numbers, directions_of
from leftout.solvers.krylov import largest_eigenvalue
from leftout.solvers.spectrum import Spectrum, spectrum_of
from leftout.solvers.tiled.deflation import Deflation, leading_vectors
from leftout.solvers.tiled.invert import fill, invert
from leftout.solvers.tiled.inverted_tiles import InvertedTiles
from leftout.solvers.tiled.tiled_factor import TiledFactor
from leftout.solvers.tiled.tiled_inverse import TiledInverse
from leftout.solvers.tiled.triangle import Triangle, TriangleInMemory

F = TypeVar("F", bound=Factor)


@final
class Factorisations:
    """K + λI factored and inverted, the last of each kept, and the spectrum of K.

    Args:
        gram: K.
        definite: whether no eigenvalue of K can be negative.
        made_in: dtype that K was evaluated in.
        train: whose repeated inputs are named where K is singular.
        tile_dtype: of the tiles, where K is an `EvaluatedMatrix`.

    Attributes:
        tiles_folder: where tiles are kept, and found again by a computation that was stopped; in memory if
            None.
    """

    def __init__(
        self,
        gram: Float64[Tensor, "r r"],
        *,
        definite: bool,
        made_in: torch.dtype,
        train: Examples,
        tile_dtype: torch.dtype = torch.float64,
    ) -> None:
        self.gram = gram
        self.definite = definite
        self.made_in = made_in
        self.train = train
        self.tile_dtype = tile_dtype
        self.tiles_folder: Path | None = None
        self._factor: Factor | None = None
        self._inverse: tuple[float, Tensor] | None = None

    @property
    def side(self) -> str:
        """Return the size of K, in words."""
        return f"{len(self.gram)} × {len(self.gram)}"

    @property
    def has_spectrum(self) -> bool:
        """Return whether the eigenpairs are known already."""
        return "spectrum" in vars(self)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Return all eigenpairs of K; 9n³ flops, once.

        Raises:
            NotPositiveError: labels made K indefinite.
            OptionError: K is factored in tiles.
        """
        self._check_whole("A training time, a spectrum or a learning curve")
        with spinner(f"eigendecomposition of {self.side}"):
            try:
                if self._directions is not None:
                    return self._directions.spectrum()
                return spectrum_of(as_numbers(self.gram), made_in=self.made_in)
            except NotPositiveError as error:
                if self.definite:
                    raise
                low, high = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
                raise NotPositiveError(
                    f"Labels have made the kernel indefinite: eigenvalues reach from {high:.3g} down to "
                    f"{low:.3g}. Training times and learning curves need a positive one: take a smaller "
                    "`strength`."
                ) from error

    @cached_property
    def eigenvalues(self) -> Float64[Tensor, " r"]:
        """Return all eigenvalues of K, ascending, of an indefinite one too; 4n³/3 flops."""
        with spinner(f"eigenvalues of {self.side}"):
            values: Tensor = torch.linalg.eigvalsh(self.gram)
        return values

    @cached_property
    def largest(self) -> float:
        """Return s_max: from the spectrum if it is known, else by Lanczos."""
        if self.has_spectrum:
            return self.spectrum.largest
        if isinstance(self._factor, TiledFactor):
            return self._factor.largest
        return largest_of(self.gram)

    def factor(self, ridge: float) -> Factor:
        """Return a factorisation of K + ridge·I.

        Raises:
            NotPositiveError: the matrix is singular; repeated inputs are named if they are why.
        """
        if self._directions is not None:
            return self._factorise(FeatureFactor, partial(factor_features, self._directions), ridge)
        if isinstance(self.gram, EvaluatedMatrix):
            return self._factorise(TiledFactor, self._factor_in_tiles, ridge)
        if self.definite:
            return self.cholesky(ridge)
        return self._factorise(IndefiniteFactor, partial(factor_indefinite, as_numbers(self.gram)), ridge)

    def cholesky(self, ridge: float) -> CholeskyFactor:
        """Return the Cholesky factor of K + ridge·I.

        Raises:
            NotPositiveError: the matrix is singular or not positive.
            OptionError: K is factored in tiles.
        """
        self._check_whole("A Cholesky factor")
        return self._factorise(CholeskyFactor, partial(factor_cholesky, as_numbers(self.gram)), ridge)

    def inverse(self, ridge: float) -> Float64[Tensor, "r r"]:
        """Return (K + ridge·I)⁻¹."""
        if self._inverse is None or self._inverse[0] != ridge:
            self._inverse = None
            factor = self.factor(ridge)
            with spinner(f"inverse of {self.side}"):
                self._inverse = (ridge, factor.inverse())
        return self._inverse[1]

    @cached_property
    def _directions(self) -> FeatureDirections | None:
        """Return the directions of the features that K is kept as; None where K is its numbers."""
        return directions_of(self.gram)

    def _check_whole(self, what: str) -> None:
        if isinstance(self.gram, EvaluatedMatrix):
            raise OptionError(
                f"{what} takes the kernel matrix as a whole, and this model of {len(self.gram)} examples is "
                'solved in tiles (solver="tiled"), at the end of training. Take fewer examples (`n_train`) '
                "or more `memory`."
            )

    def _factor_in_tiles(self, *, ridge: float) -> TiledFactor:
        """Return the inverse of K + ridge·I in tiles."""
        gram = self.gram
        assert isinstance(gram, EvaluatedMatrix)
        triangle = self._triangle(ridge)
        deflation = self._deflation(triangle, gram, ridge)

        def kernel_tile(i: int, j: int) -> Tensor:
            rows, columns = triangle.spans[i], triangle.spans[j]
            return gram.part(rows, columns).make_numbers() - deflation.taken_out(rows, columns)

        fill(triangle, kernel_tile, ridge)
        invert(triangle)
        inverse = TiledInverse(InvertedTiles(triangle, deflation), room=gram.room)
        return TiledFactor(gram, ridge, inverse, deflation.ends[1] - ridge)

    def _deflation(self, triangle: Triangle, gram: EvaluatedMatrix, ridge: float) -> Deflation:
        """Return leading directions of K + ridge·I, those that were kept with tiles where there are any."""
        vectors, images = triangle.array("directions"), triangle.array("images")
        if vectors is None or images is None:
            vectors = leading_vectors(gram)
            images = gram @ vectors + ridge * vectors
            triangle.keep_array("directions", vectors)
            triangle.keep_array("images", images)
        return Deflation(vectors, images)

    def _triangle(self, ridge: float) -> Triangle:
        """Return tiles that are empty, or those in the folder."""
        n, dtype = len(self.gram), self.tile_dtype
        if self.tiles_folder is None:
            return TriangleInMemory(n, dtype=dtype, device=self.gram.device)
        assert isinstance(self.gram, EvaluatedMatrix)
        of = self.gram.kernel.record, self.train.fingerprint, ridge, str(self.gram.evaluated_in)
        identity: dict[str, Any] = {"model": fingerprint(of)}
        return TriangleFile(self.tiles_folder, n, dtype=dtype, identity=identity)

    def _factorise(self, kind: type[F], factorise: Callable[..., F], ridge: float) -> F:
        """Return the factorisation of this kind: the last one if it is."""
        if isinstance(self._factor, kind) and self._factor.ridge == ridge:
            return self._factor
        self._factor = None
        try:
            with spinner(f"factorisation of {self.side}"):
                factor = factorise(ridge=ridge)
        except NotPositiveError as error:
            raise NotPositiveError(f"{error}{identical_inputs_sentence(self.train)}") from None
        self._factor = factor
        return factor


def largest_of(gram: Float64[Tensor, "r r"]) -> float:
    """Return the largest eigenvalue of a matrix, by Lanczos."""
    return largest_eigenvalue(
        lambda x: gram @ x, len(gram), generator=torch.Generator().manual_seed(0), device=gram.device
    )


def identical_inputs_sentence(train: Examples) -> str:
    """Return a sentence that names two identical inputs, or nothing."""
    groups = identical_inputs(train.inputs)
    if not groups:
        return ""
    first, second = groups[0][:2]
    alike = bool(torch.equal(train.targets[first], train.targets[second]))
    return (
        f" Examples {train.ids[first]!r} and {train.ids[second]!r} have identical inputs and "
        f"{'the same target' if alike else 'different targets'}."
    )
