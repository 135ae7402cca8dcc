/* Holds the namespaces of a pod: sleeps until it is told to end, and reaps whatever is left to it. With -v it says what it is and ends,
   by which kubeadm sees, before an upgrade, that pods come to their end. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "-v")) {
        puts("pause.c, the lab's");
        return 0;
    }
    struct sigaction ends = {.sa_handler = end};
    struct sigaction reaps = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGINT, &ends, 0);
    sigaction(SIGTERM, &ends, 0);
    sigaction(SIGCHLD, &reaps, 0);
    for (;;)
        pause();
}
