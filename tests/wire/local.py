"""What is asked of llama.cpp's server with a model of random weights: real inference, and real nonsense."""

import itertools

from bench import Call, Case, Up

NONSENSE = {"OutputLimit", "NotOfSchema", "Malformed"}


def llama(base):
    def up(how="Prompt", stream=True, model="tiny-random"):
        return Up("OpenAiChat", base + "/v1", model, stream, how, more={"timers": {"firstContent": 60000, "idle": 60000}})

    # A schema is a request that it does not understand: a 500 to what is the caller's mistake. It is asked again, as any 500
    # is, and then the rules answer; its breaker opens for this namespace alone (Blame::Asker in failure.rs).
    yield Case("llama, Native", [up("Native")], [Call("Upstream", 500, "SameUpstream")] * 2 + [Call("Upstream", 500, "NextRung")],
               [3], "rules")
    # Random weights do not end an answer: each runs to its limit, and to the doubled one.
    for stream in [True, False]:
        yield Case(f"llama, {'streamed' if stream else 'whole'}", [up(stream=stream)],
                   [Call("OutputLimit", 200, "AskedDifferently"), Call("OutputLimit", 200, "NextRung")], [2], "rules", deadline=120)
