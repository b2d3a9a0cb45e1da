/* flagdit from C, and from any language that calls C: a bundle in, pictures out. docs/runtime.md
 * tells more.
 *
 * Every function that can fail returns a flagdit_status, and where it is not FLAGDIT_OK, it puts an
 * error into `error` if that is not NULL: the caller frees it. Texts are UTF-8 that ends in 0. A
 * pipeline may be shared between threads once it is loaded; a run belongs to one thread at a time.
 * Nothing is global. */
#ifndef FLAGDIT_H
#define FLAGDIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FLAGDIT_API __attribute__((visibility("default")))
#else
#define FLAGDIT_API
#endif

typedef enum {
  FLAGDIT_OK = 0,
  FLAGDIT_REQUEST = 1,   /* a prompt, size, step count or ratio that cannot be served */
  FLAGDIT_BUNDLE = 2,    /* a file is missing, damaged, or of another version */
  FLAGDIT_BACKEND = 3,   /* what should compute is not installed, or cannot run here */
  FLAGDIT_NUMBER = 4,    /* a run came to values that are no numbers */
  FLAGDIT_OUTPUT = 5,    /* a result cannot be written */
  FLAGDIT_MISUSE = 6,    /* a NULL, or memory that is too small */
  FLAGDIT_CANCELLED = 7, /* by the callback */
  FLAGDIT_INTERNAL = 8   /* a fault of flagdit */
} flagdit_status;

typedef struct flagdit_error flagdit_error;
typedef struct flagdit_pipeline flagdit_pipeline;
typedef struct flagdit_run flagdit_run;

/* What was wrong, what was got, what is allowed and the next command. Lives as long as the error.
 */
FLAGDIT_API const char* flagdit_error_text(const flagdit_error* error);
FLAGDIT_API void flagdit_error_free(flagdit_error* error);

/* Such as 0.1.0. Static. */
FLAGDIT_API const char* flagdit_version(void);
/* Frees a text that a function below has made. */
FLAGDIT_API void flagdit_text_free(char* text);

/* Opens a bundle's directory, and loads it. options: NULL, or JSON:
 * {"threads": 4, "precision": "float32", "max_memory": BYTES, "device": "auto|cpu|cuda",
 *  "backend": "onnxruntime|tensorrt", "onnxruntime": "PATH", "tensorrt": "PATH", "load": true}
 * With "load": false graphs and weights are loaded by the first run, and until then plans can be
 * asked for. */
FLAGDIT_API flagdit_status flagdit_open(const char* bundle, const char* options,
                                        flagdit_pipeline** pipeline, flagdit_error** error);
FLAGDIT_API void flagdit_close(flagdit_pipeline* pipeline);

typedef struct {
  int64_t width, height; /* of a picture, in pixels; it has 3 bytes each, red, green and blue */
  int64_t pictures;
  int64_t steps;
  int64_t bytes; /* of memory that the process will hold at most, by flagdit's estimate */
} flagdit_plan_info;

/* What a request will do: checked, nothing is computed. request: JSON with the options of `flagdit
 * generate`:
 * {"prompt": "a red apple", "seed": 7, "preset": "quality", "size": [64, 64]} */
FLAGDIT_API flagdit_status flagdit_plan(flagdit_pipeline* pipeline, const char* request,
                                        flagdit_plan_info* info, flagdit_error** error);

/* A run, before its first step. The pipeline may be closed meanwhile. */
FLAGDIT_API flagdit_status flagdit_run_start(flagdit_pipeline* pipeline, const char* request,
                                             flagdit_run** run, flagdit_plan_info* info,
                                             flagdit_error** error);
FLAGDIT_API void flagdit_run_free(flagdit_run* run);

/* The next step. left: how many there are after it. */
FLAGDIT_API flagdit_status flagdit_run_step(flagdit_run* run, int64_t* left, flagdit_error** error);

/* Copies a picture (height, width, 3) into memory of the caller: what it would be if nothing
 * changed its course any more, and after the last step what it is. size: of that memory, width *
 * height * 3 at least. */
FLAGDIT_API flagdit_status flagdit_run_picture(const flagdit_run* run, int64_t picture,
                                               uint8_t* rgb, size_t size, flagdit_error** error);
/* Writes it as a PNG that says how it was made. */
FLAGDIT_API flagdit_status flagdit_run_save(const flagdit_run* run, int64_t picture,
                                            const char* path, flagdit_error** error);
/* The report of a finished run, in JSON: the caller frees it with flagdit_text_free. */
FLAGDIT_API flagdit_status flagdit_run_report(const flagdit_run* run, char** json,
                                              flagdit_error** error);

/* Called after every step; `run` can give a picture there. Returns 0 to go on, and anything else to
 * stop. */
typedef int (*flagdit_on_step)(void* user, const flagdit_run* run, int64_t done, int64_t steps);

/* One picture in one call: all steps of a request with one prompt. on_step: NULL, or see there;
 * user: for it. */
FLAGDIT_API flagdit_status flagdit_generate(flagdit_pipeline* pipeline, const char* request,
                                            uint8_t* rgb, size_t size, flagdit_on_step on_step,
                                            void* user, flagdit_error** error);

#ifdef __cplusplus
}
#endif

#endif /* FLAGDIT_H */
