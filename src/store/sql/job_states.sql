SELECT
    s.job, s.since,
    (
        SELECT r.scheduled_for FROM job_runs r
        WHERE r.job = s.job AND NOT r.by_hand AND r.scheduled_for <= $1
        ORDER BY r.scheduled_for DESC LIMIT 1
    ) AS latest,
    (
        SELECT r.scheduled_for FROM job_runs r
        WHERE r.job = s.job AND r.status = 'ok' AND NOT r.by_hand AND r.scheduled_for <= $1
        ORDER BY r.scheduled_for DESC LIMIT 1
    ) AS latest_ok,
    (
        SELECT r.scheduled_for FROM job_runs r
        WHERE r.job = s.job AND r.status IN ('ok', 'failed', 'timed_out', 'skipped') AND NOT r.by_hand
            AND r.scheduled_for <= $1
        ORDER BY r.scheduled_for DESC LIMIT 1
    ) AS latest_ended,
    (
        SELECT r.ended_at FROM job_runs r
        WHERE r.job = s.job AND r.status = 'ok' AND r.scheduled_for <= $1
        ORDER BY r.scheduled_for DESC LIMIT 1
    ) AS succeeded_at,
    (
        SELECT r.started_at FROM job_runs r
        WHERE r.job = s.job AND r.status = 'ok' AND r.scheduled_for <= $1
        ORDER BY r.scheduled_for DESC LIMIT 1
    ) AS done_as_of
FROM job_schedules s
