/* Quire's CUDA kernels: the whole exported interface.
 *
 * Plain C: raw device pointers and sizes, no torch, no Python. Nothing is checked here; callers hand over valid,
 * contiguous arrays of the shapes given (the Python wrapper in engine/ops checks them). All arrays are row-major and
 * stay the caller's. `dtype` is the type of activations, float16 or bfloat16; tables, norm weights and caches have
 * types of their own.
 *
 * Every op runs on the stream it is given, on the calling thread's current device; it does not wait, allocate, or set
 * anything. It returns 0, a cudaError_t, or QUIRE_CUDA_UNSUPPORTED. quire_cuda_init is called once per device before
 * the first op.
 *
 * Every op is batch-invariant: the bits of an output row depend on that row's inputs and the device's architecture
 * only.
 */
#ifndef QUIRE_CUDA_H
#define QUIRE_CUDA_H

#include <stdint.h>

#define QUIRE_CUDA_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a signature or the meaning of an argument changes; cuda_ext/loader.py expects the same number. */
#define QUIRE_CUDA_ABI_VERSION 5

/* Element types. */
enum { QUIRE_CUDA_F16 = 0, QUIRE_CUDA_BF16 = 1, QUIRE_CUDA_F32 = 2 };

/* Result of an op, besides cudaError_t (which is never negative). */
enum { QUIRE_CUDA_OK = 0, QUIRE_CUDA_UNSUPPORTED = -1 };

/* What kernels and their callers need to know of a device. */
typedef struct quire_cuda_device {
    int32_t capability_major;
    int32_t capability_minor;
    int32_t processors;
    int32_t shared_bytes_per_block;
    int32_t l2_bytes;
} quire_cuda_device;

QUIRE_CUDA_API int32_t quire_cuda_abi_version(void);

/* Loads every kernel onto a device and sets what has to be set. */
QUIRE_CUDA_API int32_t quire_cuda_init(int32_t device);

QUIRE_CUDA_API int32_t quire_cuda_device_info(int32_t device, quire_cuda_device *info);

/* Newest CUDA version the driver can run, as 1000 * major + 10 * minor; 0 without a driver. */
QUIRE_CUDA_API int32_t quire_cuda_driver_version(void);

/* CUDA version the library is built with, in the same form. */
QUIRE_CUDA_API int32_t quire_cuda_runtime_version(void);

/* What a positive status means. */
QUIRE_CUDA_API const char *quire_cuda_error_message(int32_t status);

/* out [rows, width] = table[ids], table [*, width] of `table_dtype`. */
QUIRE_CUDA_API int32_t quire_cuda_embed(void *stream, const int32_t *ids, const void *table, int32_t table_dtype,
                                        int64_t rows, int64_t width, void *out, int32_t dtype);

/* out [count, width] = x[rows], x [*, width]. */
QUIRE_CUDA_API int32_t quire_cuda_take_rows(void *stream, const void *x, const int32_t *rows, int64_t count,
                                            int64_t width, void *out, int32_t dtype);

/* out = x / sqrt(mean(x^2) + eps) * weight; x, out [rows, width], weight [width] of `weight_dtype`. Element i of an
 * output row is feature order[i], order [width] being a permutation; NULL keeps the order, and then out may be x. */
QUIRE_CUDA_API int32_t quire_cuda_rms_norm(void *stream, const void *x, const void *weight, int32_t weight_dtype,
                                           float eps, int64_t rows, int64_t width, const int32_t *order, void *out,
                                           int32_t dtype);

/* Rotary embedding in place, feature i paired with i + head_dim / 2. q [rows, q_heads, head_dim],
 * k [rows, kv_heads, head_dim], positions [rows], cos and sin [*, head_dim / 2] float32. */
QUIRE_CUDA_API int32_t quire_cuda_rotate(void *stream, void *q, void *k, const int32_t *positions, const float *cos,
                                         const float *sin, int64_t rows, int64_t q_heads, int64_t kv_heads,
                                         int64_t head_dim, int32_t dtype);

/* out = silu(gate) * up, `count` elements; out may be gate or up. */
QUIRE_CUDA_API int32_t quire_cuda_silu_mul(void *stream, const void *gate, const void *up, int64_t count, void *out,
                                           int32_t dtype);

/* The same for arrays [rows, width]; element i of an output row is feature order[i], order [width] being a permutation.
 * out is neither gate nor up. */
QUIRE_CUDA_API int32_t quire_cuda_silu_mul_ordered(void *stream, const void *gate, const void *up, const int32_t *order,
                                                   int64_t rows, int64_t width, void *out, int32_t dtype);

/* residual += x, `count` elements. */
QUIRE_CUDA_API int32_t quire_cuda_add(void *stream, const void *x, int64_t count, void *residual, int32_t dtype);

/* Stores k and v [rows, kv_heads, head_dim] at slots [rows] (block * block_size + offset) of caches
 * [blocks, kv_heads, block_size, head_dim] of `cache_dtype`, rounding to nearest even; nothing where a slot is negative. */
QUIRE_CUDA_API int32_t quire_cuda_store_kv(void *stream, const void *k, const void *v, const int32_t *slots,
                                           int64_t rows, int64_t kv_heads, int64_t block_size, int64_t head_dim,
                                           void *k_cache, void *v_cache, int32_t cache_dtype, int32_t dtype);

/* quire_cuda_rotate and quire_cuda_store_kv in one, to the same bits: q is rotated in place, k on its way to the cache. */
QUIRE_CUDA_API int32_t quire_cuda_rotate_and_store(void *stream, void *q, const void *k, const void *v,
                                                   const int32_t *positions, const float *cos, const float *sin,
                                                   const int32_t *slots, int64_t rows, int64_t q_heads,
                                                   int64_t kv_heads, int64_t block_size, int64_t head_dim,
                                                   void *k_cache, void *v_cache, int32_t cache_dtype, int32_t dtype);

/* Causal attention over a paged cache. Sequence s owns rows query_start[s] .. query_start[s + 1] - 1, its last
 * positions; rows from query_start[sequences] on belong to none and are left alone. A token at position p sees positions
 * max(0, p - window + 1) .. p. What is launched follows from the numbers here, all else is read on the device: a
 * recorded launch stays right while rows, sequences, table_width and max_query_len hold. */
typedef struct quire_cuda_attention {
    const void *q;               /* [rows, q_heads, head_dim] of `dtype` */
    const void *k_cache;         /* [blocks, kv_heads, block_size, head_dim] of `cache_dtype` */
    const void *v_cache;         /* the same; all of these and `out` are aligned to 16 bytes */
    const int32_t *query_start;  /* [sequences + 1] */
    const int32_t *context_lens; /* [sequences] */
    const int32_t *block_tables; /* [sequences, table_width] */
    const int32_t *places;       /* [q_heads * head_dim] where in a row of `out` each feature goes, aligned to 8 bytes; NULL: to its own */
    void *out;                   /* [rows, q_heads * head_dim] of `dtype` */
    float *workspace;            /* parts of results; with less of it the result is the same to the bit, later */
    int64_t workspace_bytes;
    int32_t rows;
    int32_t sequences;
    int32_t table_width;
    int32_t max_query_len; /* most rows of a sequence, or more */
    int32_t q_heads;       /* a multiple of kv_heads */
    int32_t kv_heads;
    int32_t head_dim; /* a multiple of 8 up to 256 */
    int32_t block_size;
    int32_t window; /* 0 for all of 0 .. p */
    int32_t dtype;
    int32_t cache_dtype;
    int32_t processors;   /* of the device */
    int32_t tensor_cores; /* whether they multiply tiles of 16 x 8 x 16: on sm_80 and later */
    float scale;
} quire_cuda_attention;

QUIRE_CUDA_API int32_t quire_cuda_paged_attention(void *stream, const quire_cuda_attention *step);

/* --- EXL2 ---
 * engine/ops/exl2_tiles.py draws the layout of `planes` and `scales`, engine/ops/exl2_plan.py says what a segment is. */

/* Rows of activations and matrices one launch multiplies, and numbers a segment takes. */
#define QUIRE_CUDA_EXL2_ROWS 32
#define QUIRE_CUDA_EXL2_MATRICES 4
#define QUIRE_CUDA_EXL2_SEGMENT_WORDS 16

/* A matrix, ready for its device. */
typedef struct quire_cuda_exl2 {
    const void *planes;             /* [column blocks, plane_count, 32] of 16 bytes */
    const void *scales;             /* [column blocks, groups, 5] of 16 bytes */
    const int32_t *tiles;           /* [in_features / 32, 2]: first plane; 256 * group + width */
    const int32_t *features;        /* [in_features] feature of each stored row */
    const float *bias;              /* [out_features], or NULL */
    int32_t in_features;
    int32_t out_features;
    int32_t plane_count; /* planes in a column block */
    int32_t groups;
} quire_cuda_exl2;

/* Matrices of equal in_features and features that are multiplied in one launch, and who multiplies what. */
typedef struct quire_cuda_exl2_work {
    quire_cuda_exl2 matrices[QUIRE_CUDA_EXL2_MATRICES];
    const int32_t *segments; /* [*, 16], the first of each block of threads first */
    int32_t count;           /* of matrices */
    int32_t widest;          /* largest width there is */
    int32_t blocks;          /* blocks of threads to launch */
    int32_t shared_bytes;    /* of shared memory that a block may take */
} quire_cuda_exl2_work;

/* One product. */
typedef struct quire_cuda_exl2_step {
    const void *x;            /* [rows, in_features] float16, in stored order, aligned to 16 bytes */
    const float *row_factors; /* [rows] what each row of the product is multiplied by; NULL for 1 */
    float *partials;          /* [slots, 32, 128] workspace */
    int32_t *arrivals;        /* [slots] zeros; zeros again afterwards */
    void *out[QUIRE_CUDA_EXL2_MATRICES]; /* [rows, out_features] of `dtype`, for each matrix */
    int32_t rows;
    int32_t dtype;
} quire_cuda_exl2_step;

/* One product of many rows. */
typedef struct quire_cuda_exl2_many {
    const void *x;     /* [rows, in_features] float16, in stored order, aligned to 16 bytes */
    float *partials;   /* workspace: [row blocks, column blocks / 2 rounded up, splits] of [128, 256], if splits > 1 */
    int32_t *arrivals; /* [row blocks, column blocks / 2 rounded up] zeros; zeros again afterwards */
    void *out;         /* [rows, out_features] float16 */
    int32_t rows;
    int32_t widest; /* largest width there is */
    int32_t splits; /* runs that the stored rows are cut into, at most in_features / 32 */
} quire_cuda_exl2_many;

/* The weights as the format defines them: out [in_features, columns] float16 in feature order, from the tensors of the file.
 * units [groups] float16; `tiles` as above, with word rows for planes. */
QUIRE_CUDA_API int32_t quire_cuda_exl2_decode(void *stream, const int32_t *q_weight, const int32_t *q_scale,
                                              const void *units, const int32_t *tiles, const int32_t *features,
                                              int64_t in_features, int64_t columns, void *out);

/* The same from tiles, for `blocks` column blocks: out [in_features, 128 * blocks] with rows `stride` elements apart, in
 * feature order, or in stored order where the matrix has NULL for `features`. */
QUIRE_CUDA_API int32_t quire_cuda_exl2_decode_tiles(void *stream, const quire_cuda_exl2 *matrix, int64_t first_block,
                                                    int64_t blocks, void *out, int64_t stride, int32_t dtype);

/* x [rows, in_features] in stored order, as float16 [rows, in_features], and the factors [rows] that go with it: powers of two,
 * all of them 1 for float16. */
QUIRE_CUDA_API int32_t quire_cuda_exl2_gather(void *stream, const quire_cuda_exl2 *matrix, const void *x, int64_t rows,
                                              void *gathered, float *factors, int32_t dtype);

/* out = x W * row_factors + bias for every matrix; a row's bits do not depend on the others. */
QUIRE_CUDA_API int32_t quire_cuda_exl2_matmul(void *stream, const quire_cuda_exl2_work *work,
                                              const quire_cuda_exl2_step *step);

/* out = x W + bias for many rows, on devices of compute capability 9.0 alone; a row's bits depend on `splits` besides. */
QUIRE_CUDA_API int32_t quire_cuda_exl2_matmul_many(void *stream, const quire_cuda_exl2 *matrix,
                                                   const quire_cuda_exl2_many *step);

/* --- Sampling --- */

/* Tokens that one block of threads works on, bins of weight they are sorted into, alternatives that can be reported. */
#define QUIRE_CUDA_SAMPLING_CHUNK 2048
#define QUIRE_CUDA_SAMPLING_BINS 705
#define QUIRE_CUDA_SAMPLING_TOP 20

/* What a row of logits wants; engine/sampling/device_layout.py says it again in numpy. Lists are given by their first word
 * and their length, in words of 4 bytes counted from the start of the inputs. */
typedef struct quire_cuda_sampling_row {
    uint64_t seed;
    uint64_t top_p;     /* in units of 2^-64; 0 keeps all */
    int32_t kind;       /* 0: not used, left alone; 1: the likeliest token; 2: drawn */
    int32_t choice;
    int32_t position;   /* of the token to be chosen */
    float temperature;  /* above 0 */
    int32_t top_k;      /* 0 keeps all */
    float min_p;        /* 0 keeps all */
    float repetition_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t slot;       /* of the counts, -1 without penalties; each slot serves one row at most */
    int32_t bias;       /* pairs of a token, named once, and a float */
    int32_t biases;
    int32_t forbidden;  /* tokens */
    int32_t forbiddens;
    int32_t mask;       /* vocab_size bits, 1 for a token that is allowed; -1 without */
    int32_t logprobs;   /* alternatives to report; -1 reports nothing */
} quire_cuda_sampling_row;

/* What comes back for a row. */
typedef struct quire_cuda_sampled {
    int32_t token;
    int32_t broken; /* 1: NaN or plus infinity among the logits; 2: minus infinity everywhere; the token is 0 then */
    double logprob; /* natural, of the logits as they were given, at least -9999 */
    int32_t top_tokens[QUIRE_CUDA_SAMPLING_TOP]; /* likeliest first, as many as asked for; -1: there are no more */
    double top_logprobs[QUIRE_CUDA_SAMPLING_TOP];
} quire_cuda_sampled;

/* Device memory for sampling, for `rows` rows; chunks = vocab_size / 2048 rounded up, at most 256. */
typedef struct quire_cuda_sampler {
    uint32_t *scratch;    /* [rows, chunks, 2048] */
    uint16_t *starts;     /* [rows, chunks, 706] */
    uint64_t *leaders;    /* [rows, chunks, 20] */
    uint64_t *bin_masses; /* [rows, 705] zeros; zeros again after every call */
    uint32_t *bin_counts; /* [rows, 705] likewise */
    void *states;         /* [rows] of 32 bytes, likewise */
    uint16_t *counts;     /* [slots, vocab_size]: occurrences in the answer, and 2^15 if a token is in the prompt */
    int32_t vocab_size;
} quire_cuda_sampler;

/* Chooses a token for each row of logits [rows, vocab_size], at most 65535 rows, as engine/sampling/sampler.py does, and counts
 * it where the row has a slot. `inputs` begins with quire_cuda_sampling_row [rows], aligned to 8 bytes. What differs from step to
 * step is read from device memory only. */
QUIRE_CUDA_API int32_t quire_cuda_sample(void *stream, const quire_cuda_sampler *sampler, const float *logits,
                                         const void *inputs, int64_t rows, int32_t *tokens,
                                         quire_cuda_sampled *records);

#ifdef __cplusplus
}
#endif

#endif
