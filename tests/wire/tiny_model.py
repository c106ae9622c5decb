#!/usr/bin/env python3
"""tiny_model.py FILE: writes a model of random weights that llama.cpp runs. It knows bytes and says nonsense."""

import sys

import gguf
import numpy

LAYERS, WIDTH, HEADS, INNER = 2, 64, 4, 128
CONTEXT = 32768

random = numpy.random.default_rng(9)


def weights(*shape):
    return (random.standard_normal(shape) * 0.1).astype(numpy.float32)


def main(path):
    # Three marks, then each byte.
    words = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    # Words for what answers are mostly made of, so that a prompt is not one token for each byte.
    for letter in range(32, 127):
        words.append(chr(letter).encode() if letter != 32 else "\u2581".encode())
        kinds.append(gguf.TokenType.NORMAL)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_tensor("token_embd.weight", weights(len(words), WIDTH))
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        writer.add_tensor(f"{at}.attn_norm.weight", numpy.ones(WIDTH, numpy.float32))
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            writer.add_tensor(f"{at}.{name}.weight", weights(WIDTH, WIDTH))
        writer.add_tensor(f"{at}.ffn_norm.weight", numpy.ones(WIDTH, numpy.float32))
        writer.add_tensor(f"{at}.ffn_gate.weight", weights(INNER, WIDTH))
        writer.add_tensor(f"{at}.ffn_up.weight", weights(INNER, WIDTH))
        writer.add_tensor(f"{at}.ffn_down.weight", weights(WIDTH, INNER))
    writer.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
    # Sure of its nonsense, and never done: neither the mark of the end nor a byte that is no text is among the likely ones.
    output = weights(len(words), WIDTH) * 10
    output[: 3 + 256] = 0
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
