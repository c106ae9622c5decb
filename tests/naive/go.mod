module backstop.dev/naive

go 1.24.0
