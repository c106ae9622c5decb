module backstop.dev/demo

go 1.24.0
