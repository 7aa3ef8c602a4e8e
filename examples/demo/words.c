/* A WASI program: reads a text, writes how often each word is in it, most frequent first. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 1000
#define LONGEST 40

static struct word {
    char text[LONGEST];
    int count;
} words[MOST];
static int known;

static void count(const char *text) {
    for (int i = 0; i < known; i++)
        if (strcmp(words[i].text, text) == 0) {
            words[i].count++;
            return;
        }
    if (known < MOST) {
        strcpy(words[known].text, text);
        words[known++].count = 1;
    }
}

static int by_count(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    return x->count != y->count ? y->count - x->count : strcmp(x->text, y->text);
}

static FILE *open(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fputs("usage: words FROM TO\n", stderr);
        return 2;
    }
    FILE *from = open(argv[1], "r"), *to = open(argv[2], "w");
    char text[LONGEST];
    int length = 0, total = 0;
    for (int c; (c = getc(from)) != EOF || length > 0;) {
        if (c != EOF && isalpha(c)) {
            if (length < LONGEST - 1)
                text[length++] = tolower(c);
        } else if (length > 0) {
            text[length] = 0;
            count(text);
            total++;
            length = 0;
        }
    }
    qsort(words, known, sizeof *words, by_count);
    for (int i = 0; i < known; i++)
        fprintf(to, "%d %s\n", words[i].count, words[i].text);
    if (fclose(to) != 0) {
        perror(argv[2]);
        return 1;
    }
    printf("%d words, %d of them different; \"%s\" comes first with %d\n", total, known, words[0].text, words[0].count);
    return 0;
}
