// The limit of JetStream for the topics benchmark: publish URL COUNT: messages of 100 bytes to one stream on disk, 256 under way at the most, by cnats alone.
// Prints how many were stored a second.
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check(natsStatus status, const char *what) {
  if (status == NATS_OK) return;
  fprintf(stderr, "publish: %s: %s\n", what, natsStatus_GetText(status));
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3) return 64;
  long count = atol(argv[2]);
  natsOptions *options;
  natsConnection *connection;
  jsCtx *context;
  jsOptions settings;
  jsStreamConfig stream;
  check(natsOptions_Create(&options), "options");
  check(natsOptions_SetURL(options, argv[1]), "URL");
  check(natsConnection_Connect(&connection, options), "connect");
  jsOptions_Init(&settings);
  settings.PublishAsync.MaxPending = 256;
  check(natsConnection_JetStream(&context, connection, &settings), "JetStream");
  jsStreamConfig_Init(&stream);
  const char *subjects[] = {"limit"};
  stream.Name = "limit";
  stream.Subjects = subjects;
  stream.SubjectsLen = 1;
  check(js_AddStream(NULL, context, &stream, NULL, NULL), "stream");
  char text[100];
  memset(text, 'x', sizeof text);
  double start = now();
  for (long i = 0; i < count; i++) check(js_PublishAsync(context, "limit", text, sizeof text, NULL), "publish");
  check(js_PublishAsyncComplete(context, NULL), "complete");
  printf("%.0f\n", (double)count / (now() - start));
  jsCtx_Destroy(context);
  natsConnection_Destroy(connection);
}
