SELECT r.*
FROM job_runs r
WHERE r.id = (
    SELECT l.id FROM job_runs l WHERE l.job = r.job ORDER BY l.started_at DESC, l.id DESC LIMIT 1
)
ORDER BY r.job
