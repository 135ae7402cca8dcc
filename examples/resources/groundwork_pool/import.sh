terraform import groundwork_pool.web 'dev/web'
