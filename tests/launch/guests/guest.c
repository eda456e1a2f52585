// A program that loads llama.cpp and tells how it was started. The first word says what to do.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int llama_stands_here(void);
__attribute__((weak)) int preload_stands_here(void);

extern char** environ;

static int say_words(int count, char** words) {
    for (int i = 0; i < count; ++i)
        fwrite(words[i], 1, strlen(words[i]) + 1, stdout);
    return 0;
}

static int say_environment(void) {
    for (char** entry = environ; *entry; ++entry)
        puts(*entry);
    puts(preload_stands_here ? "preloaded" : "not preloaded");
    return 0;
}

static int copy_to_output(const char* path) {
    char block[4096];
    FILE* file = fopen(path, "r");
    const size_t size = fread(block, 1, sizeof(block), file);
    fwrite(block, 1, size, stdout);
    return fclose(file);
}

static int say_descriptors(void) {
    for (int fd = 0; fd < 256; ++fd) {
        char path[64], target[256];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        const ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length > 0) printf("%d %.*s\n", fd, (int)length, target);
    }
    return 0;
}

// A line for each signal; SIGTERM ends it with code 0.
static int say_signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    puts("ready");
    for (;;) {
        int signal = 0;
        if (sigwait(&all, &signal) != 0) return 1;
        puts(sigabbrev_np(signal));
        if (signal == SIGTERM) return 0;
    }
}

static int wait_for_input(void) {
    puts("ready");
    char word[16];
    while (read(STDIN_FILENO, word, sizeof(word)) > 0) {
    }
    return 0;
}

static int outlive_parent(void) {
    const pid_t parent = getppid();
    puts("ready");
    while (getppid() == parent)
        usleep(1000);
    puts("went on");
    return 0;
}

// -1: kvfold does not listen.
static int connect_channel(const char* channel) {
    const char* settings = getenv("KVFOLD_PRELOAD");
    const char* field = settings ? strstr(settings, "\"control\":\"") : NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!field || sscanf(field, "\"control\":\"%100[^\"]", address.sun_path) != 1) return -1;
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr*)&address, sizeof(address)) != 0) return -1;
    dprintf(fd, "{\"pid\":%d,\"program\":\"guest\",\"channel\":\"%s\"}\n", (int)getpid(), channel);
    return fd;
}

// The same state whatever the question. Says "stop" when that is announced.
static void* answer(void* channel) {
    const int fd = *(const int*)channel;
    FILE* in = fdopen(fd, "r");
    char line[4096];
    while (fgets(line, sizeof(line), in)) {
        if (strstr(line, "\"op\":\"stop\"")) puts("stop");
        const char* id = strstr(line, "\"id\":");
        dprintf(fd, "{\"id\":%d,\"sequences\":[{\"n\":7}],\"context\":{\"cells\":64}}\n",
                id ? atoi(id + 5) : -1);
    }
    return NULL;
}

// As a process that kvfold manages.
static int answer_control(void) {
    int pulse = connect_channel("pulse"), control = connect_channel("control");
    pthread_t thread;
    if (pulse < 0 || control < 0 || pthread_create(&thread, NULL, answer, &pulse) != 0) return 3;
    puts("ready");
    answer(&control);
    return 0;
}

// The same, and no signal ends it.
static int answer_on(void) {
    for (int signal = SIGHUP; signal <= SIGTERM; ++signal)
        if (signal != SIGKILL) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    return answer_control();
}

int main(int argc, char** argv) {
    if (!llama_stands_here() || argc < 2) return 99;
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char* what = argv[1];
    if (!strcmp(what, "words")) return say_words(argc, argv);
    if (!strcmp(what, "environment")) return say_environment();
    if (!strcmp(what, "status")) return copy_to_output("/proc/self/status");
    if (!strcmp(what, "descriptors")) return say_descriptors();
    if (!strcmp(what, "signals")) return say_signals();
    if (!strcmp(what, "input")) return wait_for_input();
    if (!strcmp(what, "outlive")) return outlive_parent();
    if (!strcmp(what, "control")) return answer_control();
    if (!strcmp(what, "control-on")) return answer_on();
    if (!strcmp(what, "exit")) return atoi(argv[2]);
    if (!strcmp(what, "die")) return raise(atoi(argv[2]));
    return 98;
}
