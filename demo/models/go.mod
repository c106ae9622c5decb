module backstop.dev/models

go 1.24.0
