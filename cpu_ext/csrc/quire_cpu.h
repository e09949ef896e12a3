/* Quire's CPU kernels: the whole exported interface.
 *
 * Plain C: raw pointers and sizes, no torch, no Python. Nothing is checked here; callers hand over valid, contiguous,
 * non-overlapping arrays of the shapes given (the Python wrapper in engine/ops checks them). All arrays are row-major
 * and stay the caller's. Activations are float32.
 *
 * Every op is batch-invariant: the bits of an output row depend on that row's inputs and on the instruction set only,
 * never on other rows, the number of rows, or the number of threads.
 *
 * A context serves one call at a time; concurrent calls on one context wait for each other. After a fork the child may
 * go on using a context, single-threaded.
 */
#ifndef QUIRE_CPU_H
#define QUIRE_CPU_H

#include <stdint.h>

#define QUIRE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a signature or the meaning of an argument changes; cpu_ext/loader.py expects the same number. */
#define QUIRE_CPU_ABI_VERSION 1

/* Element types of weights, tables and caches. */
enum { QUIRE_F16 = 0, QUIRE_BF16 = 1, QUIRE_F32 = 2 };

/* Instruction sets. AVX2 stands for AVX2 + FMA + F16C, AVX-512 for F + BW + VL + DQ. */
enum { QUIRE_ISA_AUTO = 0, QUIRE_ISA_PORTABLE = 1, QUIRE_ISA_AVX2 = 2, QUIRE_ISA_AVX512 = 3 };

/* Result of an op. */
enum { QUIRE_OK = 0, QUIRE_OUT_OF_MEMORY = 1 };

/* Threads, the choice of instruction set, and scratch memory. */
typedef struct quire_context quire_context;

/* One weight matrix in kernel layout, with its bias. */
typedef struct quire_linear quire_linear;

QUIRE_API int32_t quire_abi_version(void);

/* 1 if this library holds kernels for `isa` and this CPU can run them, else 0. */
QUIRE_API int32_t quire_isa_supported(int32_t isa);

/* Starts threads - 1 workers (the caller is the remaining one). AUTO picks the widest supported instruction set.
 * NULL if threads < 1, the instruction set is not supported, or threads or memory cannot be had. */
QUIRE_API quire_context *quire_context_create(int32_t threads, int32_t isa);

/* Ends the workers. Matrices made with the context stay valid, but need a context to be applied. */
QUIRE_API void quire_context_destroy(quire_context *context);

/* The instruction set in use: one of QUIRE_ISA_*, never AUTO. */
QUIRE_API int32_t quire_context_isa(const quire_context *context);

/* Takes over an EXL2 matrix (docs/formats.md) of K inputs and N stored outputs in G groups; the source is not kept.
 *
 * q_weight [words, N], q_invperm [K] a permutation, q_scale [G, N / 8], q_scale_max [G] float16, q_groups [2 G];
 * N is a multiple of 32, groups hold multiples of 32 rows, widths are 2 3 4 5 6 8.
 * bias [out_features] float32 or NULL. Outputs from out_features on are dropped. NULL if out of memory. */
QUIRE_API quire_linear *quire_exl2_create(quire_context *context, const uint32_t *q_weight, const int32_t *q_invperm,
                                          const uint32_t *q_scale, const uint16_t *q_scale_max,
                                          const uint16_t *q_groups, int64_t in_features, int64_t stored_out_features,
                                          int64_t groups, int64_t words, int64_t out_features, double prescale,
                                          const float *bias);

/* Takes over weight [out_features, in_features] of `dtype`, kept in that type; bias [out_features] float32 or NULL.
 * NULL if out of memory. */
QUIRE_API quire_linear *quire_dense_create(quire_context *context, const void *weight, int32_t dtype,
                                           int64_t in_features, int64_t out_features, const float *bias);

QUIRE_API void quire_linear_destroy(quire_linear *linear);

/* Bytes the matrix holds. */
QUIRE_API int64_t quire_linear_nbytes(const quire_linear *linear);

/* out [rows, out_features] = x [rows, in_features] @ W + bias, accumulated in float32. */
QUIRE_API int32_t quire_linear_apply(quire_context *context, const quire_linear *linear, const float *x, int64_t rows,
                                     float *out);

/* out [rows, width] = table[ids], table [*, width] of `dtype`. */
QUIRE_API int32_t quire_embed(quire_context *context, const int32_t *ids, const void *table, int32_t dtype,
                              int64_t rows, int64_t width, float *out);

/* out = x / sqrt(mean(x^2) + eps) * weight; x, out [rows, width] (may be the same), weight [width] of `dtype`. */
QUIRE_API int32_t quire_rms_norm(quire_context *context, const float *x, const void *weight, int32_t dtype, float eps,
                                 int64_t rows, int64_t width, float *out);

/* Rotary embedding in place, feature i paired with i + head_dim / 2. q [rows, q_heads, head_dim],
 * k [rows, kv_heads, head_dim], positions [rows], cos and sin [*, head_dim / 2]. */
QUIRE_API int32_t quire_rotate(quire_context *context, float *q, float *k, const int32_t *positions, const float *cos,
                               const float *sin, int64_t rows, int64_t q_heads, int64_t kv_heads, int64_t head_dim);

/* out = silu(gate) * up, `count` elements; out may be gate or up. */
QUIRE_API int32_t quire_silu_mul(quire_context *context, const float *gate, const float *up, int64_t count, float *out);

/* residual += x, `count` elements. */
QUIRE_API int32_t quire_add(quire_context *context, const float *x, int64_t count, float *residual);

/* Stores k and v [rows, kv_heads, head_dim] at slots [rows] (block * block_size + offset) of caches
 * [blocks, kv_heads, block_size, head_dim] of `dtype`, rounding to nearest even. */
QUIRE_API int32_t quire_store_kv(quire_context *context, const float *k, const float *v, const int32_t *slots,
                                 int64_t rows, int64_t kv_heads, int64_t block_size, int64_t head_dim, int32_t dtype,
                                 void *k_cache, void *v_cache);

/* Causal attention over a paged cache. q, out [query_start[sequences], q_heads, head_dim]; caches as in
 * quire_store_kv; query_start [sequences + 1]; context_lens [sequences]; block_tables [sequences, table_width].
 * Sequence s owns rows query_start[s] .. query_start[s + 1] - 1, its last positions. A token at position p sees
 * positions max(0, p - window + 1) .. p; window 0 means all of 0 .. p. q_heads is a multiple of kv_heads. */
QUIRE_API int32_t quire_paged_attention(quire_context *context, const float *q, const void *k_cache,
                                        const void *v_cache, int32_t dtype, const int32_t *query_start,
                                        const int32_t *context_lens, const int32_t *block_tables, int64_t sequences,
                                        int64_t table_width, int64_t q_heads, int64_t kv_heads, int64_t head_dim,
                                        int64_t block_size, float scale, int64_t window, float *out);

/* out [count, width] = x[rows], x [*, width]. */
QUIRE_API int32_t quire_take_rows(quire_context *context, const float *x, const int32_t *rows, int64_t count,
                                  int64_t width, float *out);

/* Reads `words` 64-bit words with all threads and returns their sum: the yardstick of memory bandwidth. */
QUIRE_API uint64_t quire_read_memory(quire_context *context, const uint64_t *data, int64_t words);

#ifdef __cplusplus
}
#endif

#endif
