SELECT r.*
FROM job_runs r
WHERE r.status IN ('running', 'aborted')
    AND (
        r.status = 'running'
        OR NOT r.by_hand
        AND r.scheduled_for = (
            SELECT MAX(l.scheduled_for) FROM job_runs l
            WHERE l.job = r.job AND NOT l.by_hand AND l.scheduled_for <= $1
        )
    )
