/* One line per event on standard error: time, level, process, message. */
#ifndef MOULT_BASE_LOG_H
#define MOULT_BASE_LOG_H

enum moult_log_level { MOULT_LOG_DEBUG, MOULT_LOG_INFO, MOULT_LOG_WARNING, MOULT_LOG_ERROR };

/* `who` stands in every line of this process ("front", "worker minilm 7"); it is copied. */
void moult_log_setup(const char *who, enum moult_log_level least);
void moult_log(enum moult_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define moult_log_debug(...) moult_log(MOULT_LOG_DEBUG, __VA_ARGS__)
#define moult_log_info(...) moult_log(MOULT_LOG_INFO, __VA_ARGS__)
#define moult_log_warning(...) moult_log(MOULT_LOG_WARNING, __VA_ARGS__)
#define moult_log_error(...) moult_log(MOULT_LOG_ERROR, __VA_ARGS__)

#endif
