module hooks

go 1.24
