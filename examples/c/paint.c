/* A picture of a sentence in memory of our own: paint BUNDLE "a red apple" out.ppm
 * cc paint.c $(pkg-config --cflags --libs flagdit) -o paint */
#include <flagdit.h>
#include <stdio.h>
#include <stdlib.h>

static int on_step(void* user, const flagdit_run* run, int64_t done, int64_t steps) {
  (void)run; /* flagdit_run_picture gives a preview of it */
  printf("step %lld of %lld\n", (long long)done, (long long)steps);
  return done == *(const int64_t*)user; /* anything but 0 stops */
}

static int failed(flagdit_error* error) {
  fprintf(stderr, "%s\n", flagdit_error_text(error));
  flagdit_error_free(error);
  return 1;
}

int main(int argc, char** argv) {
  flagdit_pipeline* pipeline = NULL;
  flagdit_error* error = NULL;
  flagdit_plan_info info;
  char request[4096];
  if (argc != 4) {
    fprintf(stderr, "usage: %s BUNDLE PROMPT PICTURE.ppm\n", argv[0]);
    return 2;
  }
  /* Of a prompt that holds quotes, a program would write JSON with a library. */
  snprintf(request, sizeof request, "{\"prompt\": \"%s\", \"seed\": 7, \"preset\": \"quality\"}",
           argv[2]);
  if (flagdit_open(argv[1], NULL, &pipeline, &error) != FLAGDIT_OK) return failed(error);
  if (flagdit_plan(pipeline, request, &info, &error) != FLAGDIT_OK) return failed(error);

  const size_t size = (size_t)(info.width * info.height * 3);
  uint8_t* rgb = malloc(size);
  int64_t never = -1;
  if (flagdit_generate(pipeline, request, rgb, size, on_step, &never, &error) != FLAGDIT_OK)
    return failed(error);
  flagdit_close(pipeline);

  FILE* file = fopen(argv[3], "wb");
  if (file == NULL) return 1;
  fprintf(file, "P6 %lld %lld 255\n", (long long)info.width, (long long)info.height);
  fwrite(rgb, 1, size, file);
  fclose(file);
  free(rgb);
  return 0;
}
