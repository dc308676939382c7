SELECT * FROM job_runs WHERE id = $1
