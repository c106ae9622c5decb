"""What is asked of llama.cpp's server with a model of random weights: real inference, and real nonsense."""

from bench import Call, Case, Up


def llama(base, small):
    """`small` takes fewer tokens than the prompt has."""

    def up(how="Prompt", stream=True, base=base):
        more = {"timers": {"firstContent": 60_000, "idle": 60_000, "firstEvent": 60_000, "responseHead": 60_000}}
        return Up("OpenAiChat", base + "/v1", "tiny-random", stream, how, more=more)

    # A schema is a request that it does not understand: a 500 to what is the caller's mistake. It is asked again, as after any
    # 500, and then the rules answer; of the breakers it counts for that of the asking namespace (Blame::Asker in decision.rs).
    yield Case("llama, Native", [up("Native")], [Call("Upstream", 500, "SameUpstream")] * 2 + [Call("Upstream", 500, "NextRung")],
               [3], "rules", deadline=180)
    # This model does not end an answer: it runs to the end of what the server takes, each time.
    for stream in [True, False]:
        yield Case(f"llama, {'streamed' if stream else 'whole'}", [up(stream=stream)],
                   [Call("OutputLimit", 200, "AskedDifferently"), Call("OutputLimit", 200, "NextRung")], [2], "rules", deadline=180)
    yield Case("llama, a prompt that is too long", [up(base=small, stream=False)], [Call("ContextTooLong", 400, "Stopped")], [1],
               "rules", deadline=180)
