SELECT r.*
FROM job_runs r
WHERE $1 IS NULL OR r.job = $1
ORDER BY r.started_at DESC, r.id DESC
LIMIT $2
