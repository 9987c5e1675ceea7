"""How much memory did torch hold?"""

from torch.profiler import ProfilerActivity, profile


def peak_memory(function, *args, **options) -> int:
    """Return the most bytes that torch held at once beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        function(*args, **options)
    held = peak = 0
    for event in watch.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
